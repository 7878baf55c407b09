{{ config(severity='warn', fail_calc='coalesce(sum(line_items), 0)') }}

-- Line items of the two latest billing periods, which AWS may still rewrite, that could not be used, by reason:
-- stg_aws__rejected_cost_and_usage holds them.
with periods as (
    select distinct billing_month from {{ ref('base_aws__cost_and_usage') }}
    order by billing_month desc
    limit 2
)

select
    reason,
    count(*) as line_items
from {{ ref('stg_aws__rejected_cost_and_usage') }}
where billing_month in (select billing_month from periods)
group by reason
