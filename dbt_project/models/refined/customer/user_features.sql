{#- Bound to its table, the view and its grants would be dropped with the table. An engine that binds no views ignores this. -#}
{{ config(materialized='view', bind=false) }}

select
    user_key,
    coalesce(age_band, 'unknown') as age_band,
    coalesce(state_code, 'unknown') as state_code,
    coalesce(income_band, 'unknown') as income_band,
    coalesce(status, 'unknown') as status,
    created_month,
    key_id
from {{ ref('dim_users') }}
where not is_deleted
