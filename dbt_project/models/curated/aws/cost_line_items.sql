{#- Buckets are called lakehouse-ENVIRONMENT-LAYER-ACCOUNT-REGION (infra/stacks/storage.yaml). -#}
{%- set layers = ['raw', 'curated', 'refined', 'vault'] -%}

with line_items as (

    select * from {{ ref('stg_aws__cost_and_usage') }}

)

select
    line_item_id,
    account_id,
    resource_id,
    service,
    usage_type,
    operation,
    line_item_type,
    case
        when line_item_type in ('Usage', 'DiscountedUsage', 'SavingsPlanCoveredUsage') then 'usage'
        when line_item_type in ('Credit', 'Refund') then 'credit'
        when line_item_type = 'Tax' then 'tax'
        else 'other'
    end as charge_kind,
    case
        {%- for layer in layers %}
        when {{ regexp_matches('resource_id', 'lakehouse-[a-z]+-' ~ layer ~ '-[0-9]+-') }} then '{{ layer }}'
        {%- endfor %}
        -- The change stream and its delivery land in raw.
        when {{ regexp_matches('resource_id', 'stream/lakehouse-[a-z]+-user-changes$') }} then 'raw'
        -- Athena builds curated and is asked of it.
        when {{ regexp_matches('resource_id', ':workgroup/lakehouse-[a-z]+-[a-z]+$') }} then 'curated'
        when service = 'AmazonRedshift' then 'refined'
        else 'platform'
    end as layer,
    project,
    usage_unit,
    usage_amount,
    unreadable_columns,
    currency_code,
    unblended_cost,
    usage_date,
    billing_month
from line_items
