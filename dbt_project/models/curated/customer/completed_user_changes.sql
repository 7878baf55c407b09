{{ config(
    materialized='incremental',
    unique_key=['epoch', 'commit_lsn', 'change_seq', 'user_id'],
    on_schema_change='fail',
    pre_hook="{{ forget_completed_user_changes() }}",
) }}

{%- set attributes = user_attributes().keys() | list %}

{%- set incomplete_users %}
    {%- if is_incremental() %}
    {%- set is_recent = "changes.load_date >= date '" ~ landed_since(this) ~ "'" %}
    select changes.user_id from {{ ref('user_changes') }} as changes
    left join {{ this }} as known
        on changes.epoch = known.epoch
        and changes.commit_lsn = known.commit_lsn
        and changes.change_seq = known.change_seq
        and changes.user_id = known.user_id
    where changes.unchanged_columns is not null and known.user_id is null and {{ is_recent }}
    union
    -- An event that landed after one that it stands before is the one to complete it from. An hour is for clocks that differ.
    select changes.user_id from {{ ref('user_changes') }} as changes
    inner join {{ this }} as known on changes.user_id = known.user_id
    where
        (changes.epoch, changes.commit_lsn, changes.change_seq) < (known.epoch, known.commit_lsn, known.change_seq)
        and changes.landed_at > known.landed_at - interval '1' hour
        and {{ is_recent }}
    union
    select changes.user_id from {{ ref('user_changes') }} as changes
    inner join {{ ref('user_changes') }} as moves on changes.user_id = moves.previous_user_id
    where moves.previous_user_id is not null and moves.unchanged_columns is not null and {{ is_recent }}
    {%- else %}
    select user_id from {{ ref('user_changes') }}
    where unchanged_columns is not null
    {%- endif %}
{%- endset %}
{%- set any_incomplete = any_row(incomplete_users) %}

-- Large tables are read where they are needed: an engine may keep a CTE that is named twice whole, a year's rows of it.
with recursive

-- A new key whose row was not sent whole goes on with the values that the old key had.
incomplete_moves as (
    select epoch, commit_lsn, change_seq, user_id, previous_user_id from {{ ref('user_changes') }}
    where previous_user_id is not null and unchanged_columns is not null and {{ any_incomplete }}
),

incomplete_users as (
    {{- incomplete_users }}
    union
    select user_id from incomplete_moves
    union
    select previous_user_id as user_id from incomplete_moves
),

histories as (
    select
        changes.*,
        moves.user_id is not null as is_leaving
    from {{ ref('user_changes') }} as changes
    inner join incomplete_users on changes.user_id = incomplete_users.user_id
    left join incomplete_moves as moves
        on changes.epoch = moves.epoch
        and changes.commit_lsn = moves.commit_lsn
        and changes.change_seq = moves.change_seq
        and changes.user_id = moves.previous_user_id
    where {{ any_incomplete }}
),

-- A row that moves to a key begins a new life of it, and one that leaves ends it: nothing is carried between lives.
lives as (
    select
        *,
        count(previous_user_id) over (
            partition by user_id order by epoch, commit_lsn, change_seq
            rows between unbounded preceding and current row
        )
        + count(case when is_leaving then 1 end) over (
            partition by user_id order by epoch, commit_lsn, change_seq
            rows between unbounded preceding and 1 preceding
        ) as life
    from histories
),

-- An array of one tells a value that is known to be null from one that is not known.
known as (
    select
        epoch,
        commit_lsn,
        change_seq,
        user_id,
        previous_user_id,
        unchanged_columns,
        is_leaving,
        life,
        batch_id,
        landed_at,
        load_date,
        {%- for column in attributes %}
        case
            when not is_leaving and strpos(coalesce(unchanged_columns, ''), ',{{ column }},') = 0 then array[{{ column }}]
        end as {{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    from lives
),

filled as (
    select
        epoch,
        commit_lsn,
        change_seq,
        user_id,
        previous_user_id,
        unchanged_columns,
        is_leaving,
        life,
        {%- for column in attributes %}
        {{ last_known(column) }} over life_so_far as {{ column }},
        {%- endfor %}
        batch_id,
        max(landed_at) over life_so_far as landed_at,
        max(load_date) over life_so_far as load_date,
        max(batch_id) over life_so_far || '#' || cast(count(*) over life_so_far as varchar) as row_version
    from known
    window life_so_far as (
        partition by user_id, life
        order by epoch, commit_lsn, change_seq
        rows between unbounded preceding and current row
    )
),

moves as (
    select
        heirs.user_id,
        heirs.life,
        filled.user_id as previous_user_id,
        filled.life as previous_life,
        {%- for column in attributes %}
        filled.{{ column }},
        {%- endfor %}
        filled.landed_at,
        filled.load_date,
        filled.row_version
    from filled
    inner join filled as heirs
        on filled.epoch = heirs.epoch
        and filled.commit_lsn = heirs.commit_lsn
        and filled.change_seq = heirs.change_seq
        and filled.user_id = heirs.previous_user_id
    where filled.is_leaving
),

-- From move to move (1 -> 2 -> 3), as far as a value was not sent again. Athena follows ten.
inherited (
    user_id, life, previous_user_id, previous_life, {{ attributes | join(', ') }}, landed_at, load_date, row_version
) as (
    select moves.* from moves
    left join moves as earlier
        on moves.previous_user_id = earlier.user_id
        and moves.previous_life = earlier.life
    where earlier.user_id is null

    union all

    select
        moves.user_id,
        moves.life,
        moves.previous_user_id,
        moves.previous_life,
        {%- for column in attributes %}
        coalesce(moves.{{ column }}, inherited.{{ column }}) as {{ column }},
        {%- endfor %}
        greatest(moves.landed_at, inherited.landed_at) as landed_at,
        greatest(moves.load_date, inherited.load_date) as load_date,
        moves.row_version || '<' || inherited.row_version as row_version
    from moves
    inner join inherited
        on moves.previous_user_id = inherited.user_id
        and moves.previous_life = inherited.life
)

select
    filled.epoch,
    filled.commit_lsn,
    filled.change_seq,
    filled.user_id,
    {%- for column in attributes %}
    coalesce(filled.{{ column }}, inherited.{{ column }})[1] as {{ column }},
    {%- endfor %}
    filled.batch_id,
    greatest(filled.landed_at, coalesce(inherited.landed_at, filled.landed_at)) as landed_at,
    greatest(filled.load_date, coalesce(inherited.load_date, filled.load_date)) as load_date,
    filled.row_version || coalesce('<' || inherited.row_version, '') as row_version
from filled
left join inherited
    on filled.user_id = inherited.user_id
    and filled.life = inherited.life
where filled.unchanged_columns is not null
