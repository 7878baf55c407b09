with line_items as (

    select * from {{ ref('cost_line_items') }}

),

measured as (

    select
        usage_date,
        {{ short_text('service', 64) }} as service,
        layer,
        {{ short_text('currency_code', 16) }} as currency_code,
        charge_kind,
        project,
        unblended_cost,
        case when charge_kind = 'usage' then coalesce({{ short_text('usage_unit', 64) }}, '') end as usage_unit,
        case when charge_kind = 'usage' then usage_amount end as usage_amount
    from line_items

)

select
    usage_date,
    service,
    layer,
    currency_code,
    {%- for kind, column in {'usage': 'usage_cost', 'credit': 'credits', 'tax': 'taxes', 'other': 'other_cost'}.items() %}
    cast(sum(case when charge_kind = '{{ kind }}' then unblended_cost else 0 end) as decimal(28, 10)) as {{ column }},
    {%- endfor %}
    cast(sum(unblended_cost) as decimal(28, 10)) as cost,
    cast(sum(case when project is null then unblended_cost else 0 end) as decimal(28, 10)) as untagged_cost,
    -- Amounts of one unit add up; gigabytes and requests do not.
    cast(case when min(usage_unit) = max(usage_unit) then sum(usage_amount) end as decimal(28, 10)) as usage_amount,
    case when min(usage_unit) = max(usage_unit) then nullif(min(usage_unit), '') end as usage_unit
from measured
group by usage_date, service, layer, currency_code
