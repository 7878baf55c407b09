{{ config(post_hook="{{ follow_moves() }}") }}

{%- set are_moves %}
    from {{ ref('user_changes') }} as changes
    where changes.previous_user_id is not null and changes.unchanged_columns is not null
{%- endset %}
{#- Asked of two columns that are null as a rule: where there is no move at all, the others are not read. #}
{%- set any_move = 'true' if not may_query() or run_query('select 1 as found ' ~ are_moves ~ ' limit 1').rows | length
    else 'false' -%}

with moves as (
    select
        changes.epoch,
        changes.commit_lsn,
        changes.change_seq,
        changes.user_id,
        changes.previous_user_id
    {{- are_moves }} and {{ any_move }}
),

turns as (
    select epoch, commit_lsn, change_seq, user_id, false as is_leaving from moves
    union all
    select epoch, commit_lsn, change_seq, previous_user_id as user_id, true as is_leaving from moves
),

lives as (
    select
        *,
        {{ life('not is_leaving', 'is_leaving') }} as life
    from turns
),

linked as (
    select
        *,
        lag(user_id) over event_order as previous_user_id,
        lag(life) over event_order as previous_life
    from lives
    window event_order as (partition by epoch, commit_lsn, change_seq order by is_leaving desc)
)

select
    epoch,
    commit_lsn,
    change_seq,
    user_id,
    life,
    previous_user_id,
    previous_life,
    previous_user_id as first_user_id,  -- as far as one move leads back; follow_moves() goes on from here
    previous_life as first_life
from linked
where not is_leaving
