with line_items as (

    select * from {{ ref('base_aws__cost_and_usage') }}

)

select
    ---------- ids
    line_item_id,
    account_id,
    resource_id,

    ---------- text
    service,
    usage_type,
    operation,
    line_item_type,
    usage_unit,
    currency_code,
    project,
    unreadable_columns,

    ---------- numerics
    usage_amount,
    unblended_cost,

    ---------- dates and timestamps
    billing_month,
    cast(usage_started_at as date) as usage_date
from line_items
where rejection_reason is null
