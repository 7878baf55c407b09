{{ config(
    materialized='incremental',
    unique_key='user_key',
    on_schema_change='fail',
    pre_hook="{{ delete_other_keys() }}",
) }}

{%- set known_key = key_in_use(this) %}

with users as (
    select * from {{ ref('users') }}
    {%- if is_incremental() and known_key is not none %}
    {%- set is_recent = "load_date >= date '" ~ landed_since(this) ~ "'" %}
    -- found by two narrow columns, then read: the few new rows lie among millions
    where
        user_id in (
            select user_id from {{ ref('users') }}
            where {{ is_recent }} and row_version not in (select row_version from {{ this }} where {{ is_recent }})
        )
    {%- endif %}
),

masking_key as (
    select * from {{ source('vault', 'masking_key') }}
    {%- if known_key is not none %}
    -- so that a rotation in the midst of this run adds no row of another key
    where key_id = '{{ known_key }}'
    {%- endif %}
)

select
    ---------- pseudonyms
    {{ pseudonym('cast(users.user_id as varchar(20))') }} as user_key,
    {{ pseudonym(normalise_email('users.email')) }} as email_pseudonym,
    {{ pseudonym(normalise_tax_number('users.cpf')) }} as cpf_pseudonym,
    {{ pseudonym(normalise_phone('users.phone')) }} as phone_pseudonym,

    ---------- readable masks
    {{ mask_initials('users.full_name') }} as masked_name,
    {{ mask_email('users.email') }} as masked_email,
    {{ mask_cpf('users.cpf') }} as masked_cpf,
    {{ mask_phone('users.phone') }} as masked_phone,
    {{ mask_postal_code('users.postal_code') }} as masked_postal_code,

    ---------- generalised
    {{ birth_year('users.birth_date') }} as birth_year,
    {{ age_band('users.birth_date', 'users.updated_at') }} as age_band,
    {{ short_text('users.state_code', 16) }} as state_code,
    {{ income_band('users.monthly_income') }} as income_band,
    {{ short_text('users.status', 64) }} as status,
    cast(date_trunc('month', users.created_at) as date) as created_month,
    {{ short_text('users.unreadable_columns', 128) }} as unreadable_columns,

    ---------- bookkeeping
    users.is_deleted,
    cast(users.deleted_at as date) as deleted_on,
    masking_key.key_id,
    users.batch_id,
    users.load_date,
    users.row_version
from users
cross join masking_key
