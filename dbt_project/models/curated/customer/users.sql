{{ config(materialized='incremental', unique_key='user_id', on_schema_change='fail') }}

{%- set is_new = new_batches(ref('user_changes')) %}
{%- set columns = user_attributes().keys() | list + ['unreadable_columns'] %}

-- Large tables are read where they are needed: an engine may keep a CTE that is named twice whole, a year's rows of it.
with truncates as (
    select
        (epoch, commit_lsn, change_seq) as position,
        lag((epoch, commit_lsn, change_seq)) over (order by epoch, commit_lsn, change_seq) as previous_position,
        committed_at,
        batch_id,
        load_date,
        {{ is_new }} as is_new
    from {{ ref('user_changes') }}
    where user_id is null
),

-- Positions alone first: a year's changes are not sorted or kept in memory, and only the winners' rows are read.
latest as (
    select
        user_id,
        max((epoch, commit_lsn, change_seq)) as position
    from {{ ref('user_changes') }}
    where user_id is not null and {{ is_new }}
    group by user_id
),
{%- if is_incremental() %}

known_latest as (
    select
        user_id,
        (epoch, commit_lsn, change_seq) as position
    from {{ this }}
    where user_id in (select user_id from latest)
),

winners as (
    select
        latest.user_id,
        latest.position
    from latest
    left join known_latest on latest.user_id = known_latest.user_id
    -- a change that is there already comes again when its values were erased
    where known_latest.user_id is null or latest.position >= known_latest.position
),

-- A late event gave the last change other values to carry forward.
recompleted as (
    select
        completed.user_id,
        (completed.epoch, completed.commit_lsn, completed.change_seq) as position
    from {{ ref('completed_user_changes') }} as completed
    inner join {{ this }} as known
        on completed.user_id = known.user_id
        and completed.epoch = known.epoch
        and completed.commit_lsn = known.commit_lsn
        and completed.change_seq = known.change_seq
    where
        completed.load_date >= date '{{ landed_since(this) }}'
        and completed.row_version <> split_part(known.row_version, '+', 1)
        and completed.user_id not in (select user_id from winners)
),
{%- else %}

winners as (
    select user_id, position from latest
),
{%- endif %}

last_changes as (
    select
        changes.user_id,
        {%- for column in columns %}
        case when completed.user_id is null then changes.{{ column }} else completed.{{ column }} end as {{ column }},
        {%- endfor %}
        changes.op,
        changes.committed_at,
        changes.epoch,
        changes.commit_lsn,
        changes.change_seq,
        changes.batch_id,
        coalesce(completed.load_date, changes.load_date) as load_date,
        coalesce(completed.row_version, changes.batch_id) as row_version
    from (
        select * from {{ ref('user_changes') }}
        where {{ is_new }}
    ) as changes
    inner join winners
        on changes.user_id = winners.user_id
        and (changes.epoch, changes.commit_lsn, changes.change_seq) = winners.position
    left join {{ ref('completed_user_changes') }} as completed
        on changes.epoch = completed.epoch
        and changes.commit_lsn = completed.commit_lsn
        and changes.change_seq = completed.change_seq
        and changes.user_id = completed.user_id
    {%- if is_incremental() %}

    union all

    select
        completed.user_id,
        {%- for column in columns %}
        completed.{{ column }},
        {%- endfor %}
        'u' as op,
        cast(null as timestamp) as committed_at,
        completed.epoch,
        completed.commit_lsn,
        completed.change_seq,
        completed.batch_id,
        completed.load_date,
        completed.row_version
    from {{ ref('completed_user_changes') }} as completed
    inner join recompleted
        on completed.user_id = recompleted.user_id
        and (completed.epoch, completed.commit_lsn, completed.change_seq) = recompleted.position
    {%- endif %}
),

-- Few users are older than the last truncate, and only those are compared with each.
truncated as (
    select
        found.user_id,
        truncates.committed_at,
        truncates.batch_id,
        truncates.load_date
    from (
        select user_id, position from winners
        {%- if is_incremental() %}
        union all
        select user_id, position from recompleted
        {%- endif %}
    ) as found
    inner join truncates
        on found.position < truncates.position
        and (truncates.previous_position is null or found.position > truncates.previous_position)
    where found.position < (select max(every_truncate.position) from truncates as every_truncate)
),

resolved as (
    select
        last_changes.*,
        last_changes.op in ('d', 'e') or truncated.user_id is not null as is_deleted,
        case when last_changes.op in ('d', 'e') then last_changes.committed_at else truncated.committed_at end as deleted_at,
        case when last_changes.op not in ('d', 'e') then truncated.batch_id end as truncate_batch_id,
        case when last_changes.op not in ('d', 'e') then truncated.load_date end as truncate_load_date
    from last_changes
    left join truncated on last_changes.user_id = truncated.user_id
)

select
    user_id,
    {%- for column in columns %}
    case when not is_deleted then {{ column }} end as {{ column }},
    {%- endfor %}
    is_deleted,
    deleted_at,
    epoch,
    commit_lsn,
    change_seq,
    op,
    coalesce(truncate_batch_id, batch_id) as batch_id,
    greatest(load_date, coalesce(truncate_load_date, load_date)) as load_date,
    row_version || coalesce('+' || truncate_batch_id, '') as row_version
from resolved
{%- if is_incremental() %}

union all

-- a truncate touches users of whom no change landed
select
    known.user_id,
    {%- for column in columns %}
    null as {{ column }},
    {%- endfor %}
    true as is_deleted,
    truncates.committed_at as deleted_at,
    known.epoch,
    known.commit_lsn,
    known.change_seq,
    known.op,
    truncates.batch_id,
    greatest(known.load_date, truncates.load_date) as load_date,
    split_part(known.row_version, '+', 1) || '+' || truncates.batch_id as row_version
from {{ this }} as known
inner join truncates
    on (known.epoch, known.commit_lsn, known.change_seq) < truncates.position
    and (
        truncates.previous_position is null
        or (known.epoch, known.commit_lsn, known.change_seq) > truncates.previous_position
    )
where
    {{ any_row("select 1 as found from " ~ ref('user_changes') ~ " where user_id is null and " ~ is_new) }}
    and truncates.is_new
    and known.op not in ('d', 'e')
    and known.user_id not in (select user_id from winners)
    and known.user_id not in (select user_id from recompleted)
{%- endif %}
