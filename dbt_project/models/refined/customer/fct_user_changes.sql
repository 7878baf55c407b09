{{ config(
    materialized='incremental',
    unique_key=['window_start', 'op', 'state_code'],
    on_schema_change='fail',
) }}

{%- set is_new = new_batches(ref('user_changes')) %}

with changes as (
    select
        {{ five_minutes('committed_at') }} as window_start,
        op,
        coalesce(state_code, 'unknown') as state_code,
        committed_at,
        batch_id,
        load_date
    from {{ ref('user_changes') }}
    where committed_at >= timestamp '{{ earliest('committed_at', ref('user_changes'), is_new) }}' - interval '5' minute
),

-- Whole windows: a batch seldom ends where a window does.
touched as (
    select distinct window_start from changes
    where {{ is_new }}
)

select
    window_start,
    op,
    state_code,
    count(*) as changes,
    max(batch_id) as batch_id,
    max(load_date) as load_date
from changes
where window_start in (select window_start from touched)
group by window_start, op, state_code
