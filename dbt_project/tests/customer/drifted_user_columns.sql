{{ config(severity='warn') }}

-- Columns that the table of users gained or lost, as the latest batch's rows show: staging does not know the new ones, and
-- takes one that is gone for unchanged. A rename is both.
{%- set known = ['id'] + user_attributes().values() | list %}

with events as (
    select op, {{ json_keys('after') }} as keys from {{ source('customer', 'usuarios') }}
    where {{ latest_batch(source('customer', 'usuarios')) }} and op in ('r', 'c', 'u') and not {{ is_erased('after') }}
),

found as (
    select distinct key_name from events
    cross join unnest(events.keys) as names (key_name)
),

expected (key_name) as (
    values
    {%- for key in known %}
    ('{{ key }}'){{ ',' if not loop.last }}
    {%- endfor %}
)

select
    found.key_name,
    'is new' as what
from found
left join expected on found.key_name = expected.key_name
where expected.key_name is null

union all

select
    expected.key_name,
    'is gone' as what
from expected
left join found on expected.key_name = found.key_name
where found.key_name is null and exists (select 1 from events where op in ('r', 'c'))
