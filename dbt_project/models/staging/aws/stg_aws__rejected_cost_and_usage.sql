with line_items as (

    select * from {{ ref('base_aws__cost_and_usage') }}

)

select
    ---------- ids
    line_item_id,
    account_id,
    resource_id,

    ---------- text
    rejection_reason as reason,
    service,
    usage_type,
    operation,
    line_item_type,
    currency_code,

    ---------- numerics
    unblended_cost,

    ---------- dates and timestamps
    billing_month,
    usage_started_at
from line_items
where rejection_reason is not null
