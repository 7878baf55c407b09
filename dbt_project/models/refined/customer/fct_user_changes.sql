{{ config(
    materialized='incremental',
    unique_key=['window_start', 'op', 'state_code'],
    on_schema_change='fail',
    pre_hook="{{ forget_counted_changes() }}",
) }}

{%- set is_new = new_batches(ref('user_changes')) %}

{%- set since = earliest('committed_at', ref('user_changes'), is_new) %}

with changes as (
    select
        {{ five_minutes('committed_at') }} as window_start,
        op,
        coalesce({{ short_text('state_code', 16) }}, 'unknown') as state_code,
        batch_id,
        load_date
    from {{ ref('user_changes') }}
    {%- if is_incremental() %}
    where
        committed_at >= timestamp '{{ since }}' - interval '5' minute
        -- whole windows: a batch seldom ends where a window does
        and {{ five_minutes('committed_at') }} in (
            select {{ five_minutes('committed_at') }} from {{ ref('user_changes') }}
            where {{ is_new }}
        )
    {%- endif %}
)

select
    window_start,
    op,
    state_code,
    count(*) as changes,
    max(batch_id) as batch_id,
    max(load_date) as load_date
from changes
group by window_start, op, state_code
