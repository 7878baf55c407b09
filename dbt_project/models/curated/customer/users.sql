{{ config(materialized='incremental', unique_key='user_id', on_schema_change='fail') }}

{%- set is_new = new_batches(ref('user_changes')) %}

with changes as (
    select * from {{ ref('user_changes') }}
),

completed as (
    select * from {{ ref('completed_user_changes') }}
),

truncates as (
    select
        (epoch, commit_lsn, change_seq) as position,
        lag((epoch, commit_lsn, change_seq)) over (order by epoch, commit_lsn, change_seq) as previous_position,
        committed_at,
        batch_id,
        load_date,
        {{ is_new }} as is_new
    from changes
    where user_id is null
),

-- Positions alone first: a year's changes are not sorted or kept in memory, and only the winners' rows are read.
latest as (
    select
        user_id,
        max((epoch, commit_lsn, change_seq)) as position
    from changes
    where user_id is not null and {{ is_new }}
    group by user_id
),
{%- if is_incremental() %}

known as (
    select
        user_id,
        op,
        deleted_at,
        epoch,
        commit_lsn,
        change_seq,
        (epoch, commit_lsn, change_seq) as position
    from {{ this }}
),

known_latest as (
    select user_id, position from known
    where user_id in (select user_id from latest)
),

candidates as (
    select latest.user_id, latest.position from latest
    left join known_latest on latest.user_id = known_latest.user_id
    where known_latest.user_id is null or latest.position > known_latest.position

    union

    -- a late event gave the last change other values to carry forward
    select known.user_id, known.position from completed
    inner join known
        on completed.user_id = known.user_id
        and (completed.epoch, completed.commit_lsn, completed.change_seq) = known.position
    where
        completed.user_id in (select user_id from latest)
        or completed.user_id in (
            select user_id from changes
            where previous_user_id is not null and unchanged_columns is not null
        )
),

winners as (
    select user_id, max(position) as position from candidates
    group by user_id
),
{%- else %}

winners as (
    select user_id, position from latest
),
{%- endif %}

last_changes as (
    select
        changes.user_id,
        {%- for column in user_attributes() %}
        case when completed.user_id is null then changes.{{ column }} else completed.{{ column }} end as {{ column }},
        {%- endfor %}
        changes.op,
        changes.committed_at,
        changes.epoch,
        changes.commit_lsn,
        changes.change_seq,
        winners.position,
        coalesce(completed.batch_id, changes.batch_id) as batch_id,
        coalesce(completed.load_date, changes.load_date) as load_date
    from changes
    inner join winners
        on changes.user_id = winners.user_id
        and (changes.epoch, changes.commit_lsn, changes.change_seq) = winners.position
    left join completed
        on changes.epoch = completed.epoch
        and changes.commit_lsn = completed.commit_lsn
        and changes.change_seq = completed.change_seq
        and changes.user_id = completed.user_id
),

resolved as (
    select
        last_changes.*,
        last_changes.op = 'd' or truncates.committed_at is not null as is_deleted,
        case when last_changes.op = 'd' then last_changes.committed_at else truncates.committed_at end as deleted_at,
        case when last_changes.op <> 'd' then truncates.batch_id end as truncate_batch_id,
        case when last_changes.op <> 'd' then truncates.load_date end as truncate_load_date
    from last_changes
    left join truncates
        on last_changes.position < truncates.position
        and (truncates.previous_position is null or last_changes.position > truncates.previous_position)
)

select
    user_id,
    {%- for column in user_attributes() %}
    case when not is_deleted then {{ column }} end as {{ column }},
    {%- endfor %}
    is_deleted,
    deleted_at,
    epoch,
    commit_lsn,
    change_seq,
    op,
    coalesce(truncate_batch_id, batch_id) as batch_id,
    coalesce(truncate_load_date, load_date) as load_date
from resolved
{%- if is_incremental() %}

union all

-- a truncate touches users of whom no change landed
select
    known.user_id,
    {%- for column in user_attributes() %}
    null as {{ column }},
    {%- endfor %}
    true as is_deleted,
    truncates.committed_at as deleted_at,
    known.epoch,
    known.commit_lsn,
    known.change_seq,
    known.op,
    truncates.batch_id,
    truncates.load_date
from known
inner join truncates
    on known.position < truncates.position
    and (truncates.previous_position is null or known.position > truncates.previous_position)
where
    truncates.is_new
    and known.op <> 'd'
    and known.user_id not in (select user_id from winners)
{%- endif %}
