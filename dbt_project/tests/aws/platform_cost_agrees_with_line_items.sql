-- To the last digit as much cost in each currency, and all of it in one of the four columns.
with costs as (
    select
        currency_code,
        cost as cost_in_mart,
        usage_cost + credits + taxes + other_cost as cost_in_parts,
        0 as cost_of_line_items
    from {{ ref('mart_platform_cost') }}
    union all
    select
        {{ short_text('currency_code', 16) }} as currency_code,
        0 as cost_in_mart,
        0 as cost_in_parts,
        unblended_cost as cost_of_line_items
    from {{ ref('cost_line_items') }}
)

select
    currency_code,
    sum(cost_in_mart) as cost_in_mart,
    sum(cost_in_parts) as cost_in_parts,
    sum(cost_of_line_items) as cost_of_line_items
from costs
group by currency_code
having sum(cost_in_mart) <> sum(cost_of_line_items) or sum(cost_in_parts) <> sum(cost_of_line_items)
