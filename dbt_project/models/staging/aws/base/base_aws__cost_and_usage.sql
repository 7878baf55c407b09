with source as (

    select * from {{ source('aws', 'cost_and_usage') }}

),

renamed as (

    select
        ---------- ids
        identity_line_item_id as line_item_id,
        line_item_usage_account_id as account_id,
        nullif(line_item_resource_id, '') as resource_id,

        ---------- text
        coalesce(nullif({{ trim_whitespace('line_item_product_code') }}, ''), 'unknown') as service,
        line_item_usage_type as usage_type,
        line_item_operation as operation,
        line_item_line_item_type as line_item_type,
        nullif({{ trim_whitespace('pricing_unit') }}, '') as usage_unit,
        nullif({{ trim_whitespace('line_item_currency_code') }}, '') as currency_code,
        nullif({{ trim_whitespace(map_value('resource_tags', 'user_project')) }}, '') as project,

        ---------- numerics
        line_item_usage_amount,
        try_cast(line_item_usage_amount as decimal(28, 10)) as usage_amount,
        try_cast(line_item_unblended_cost as decimal(28, 10)) as unblended_cost,

        ---------- dates and timestamps
        {{ parse_date("billing_period || '-01'") }} as billing_month,
        {{ utc_timestamp('line_item_usage_start_date') }} as usage_started_at
    from source

)

select
    line_item_id,
    account_id,
    resource_id,
    service,
    usage_type,
    operation,
    line_item_type,
    usage_unit,
    currency_code,
    project,
    usage_amount,
    unblended_cost,
    billing_month,
    usage_started_at,
    case when usage_amount is null and line_item_usage_amount is not null then ',usage_amount,' end as unreadable_columns,
    -- A cost that cannot be added, or not to a day and a currency, has no place among the others.
    case
        when usage_started_at is null then 'no day'
        when currency_code is null then 'no currency'
        when unblended_cost is null then 'no cost that is a number'
    end as rejection_reason
from renamed
