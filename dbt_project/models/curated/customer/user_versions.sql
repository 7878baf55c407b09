{{ config(materialized='view') }}

{%- set columns = user_attributes().keys() | list + ['unreadable_columns'] %}

with completed as (
    select * from {{ ref('completed_user_changes') }}
),

-- user_changes is read twice, not named once: a filter on user_id reaches the table only so.
truncates as (
    select
        (epoch, commit_lsn, change_seq) as position,
        lag((epoch, commit_lsn, change_seq)) over (order by epoch, commit_lsn, change_seq) as previous_position,
        committed_at
    from {{ ref('user_changes') }}
    where user_id is null
),

versions as (
    select
        changes.user_id,
        {%- for column in columns %}
        case when completed.user_id is null then changes.{{ column }} else completed.{{ column }} end as {{ column }},
        {%- endfor %}
        changes.op,
        changes.committed_at as valid_from,
        lead(changes.committed_at) over user_order as next_valid_from,
        (changes.epoch, changes.commit_lsn, changes.change_seq) as position,
        lead((changes.epoch, changes.commit_lsn, changes.change_seq)) over user_order as next_position,
        changes.previous_user_id,
        changes.epoch,
        changes.commit_lsn,
        changes.change_seq
    from {{ ref('user_changes') }} as changes
    left join completed
        on changes.epoch = completed.epoch
        and changes.commit_lsn = completed.commit_lsn
        and changes.change_seq = completed.change_seq
        and changes.user_id = completed.user_id
    where changes.user_id is not null
    window user_order as (
        partition by changes.user_id order by changes.epoch, changes.commit_lsn, changes.change_seq
    )
),

ended as (
    select
        versions.*,
        case
            when truncates.committed_at is null then next_valid_from
            when next_position < truncates.position then next_valid_from
            else truncates.committed_at
        end as valid_to
    from versions
    left join truncates
        on versions.position < truncates.position
        and (truncates.previous_position is null or versions.position > truncates.previous_position)
)

select
    user_id,
    {%- for column in columns %}
    {{ column }},
    {%- endfor %}
    op,
    valid_from,
    valid_to,
    valid_to is null and op not in ('d', 'e') as is_current,
    previous_user_id,
    epoch,
    commit_lsn,
    change_seq
from ended
