{{ config(
    materialized='incremental',
    unique_key=['epoch', 'commit_lsn', 'change_seq', 'user_id'],
    on_schema_change='fail',
) }}

{%- set attributes = user_attributes().keys() | list %}

{%- set incomplete_users %}
    {%- if is_incremental() %}
    {%- set is_recent = "load_date >= date '" ~ landed_since(this) ~ "'" %}
    select user_id from {{ ref('user_changes') }}
    where unchanged_columns is not null and {{ is_recent }}
    union
    -- a late event may be the one that a later event, already completed, should have been completed from
    select user_id from {{ ref('user_changes') }}
    where
        {{ is_recent }}
        and (
            user_id in (select user_id from {{ this }})
            or user_id in (
                select previous_user_id from {{ ref('user_changes') }}
                where previous_user_id is not null and unchanged_columns is not null
            )
        )
    {%- else %}
    select user_id from {{ ref('user_changes') }}
    where unchanged_columns is not null
    {%- endif %}
{%- endset %}

with recursive changes as (
    select * from {{ ref('user_changes') }}
    where {{ any_row(incomplete_users) }}
),

-- A new key whose row was not sent whole goes on with the values that the old key had.
incomplete_moves as (
    select epoch, commit_lsn, change_seq, user_id, previous_user_id from changes
    where previous_user_id is not null and unchanged_columns is not null
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
    from changes
    inner join incomplete_users on changes.user_id = incomplete_users.user_id
    left join incomplete_moves as moves
        on changes.epoch = moves.epoch
        and changes.commit_lsn = moves.commit_lsn
        and changes.change_seq = moves.change_seq
        and changes.user_id = moves.previous_user_id
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
        max(batch_id) over life_so_far as batch_id,
        max(load_date) over life_so_far as load_date
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
        filled.batch_id,
        filled.load_date
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
    user_id, life, previous_user_id, previous_life, {{ attributes | join(', ') }}, batch_id, load_date
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
        greatest(moves.batch_id, inherited.batch_id) as batch_id,
        greatest(moves.load_date, inherited.load_date) as load_date
    from moves
    inner join inherited
        on moves.previous_user_id = inherited.user_id
        and moves.previous_life = inherited.life
),

completed as (
    select
        filled.epoch,
        filled.commit_lsn,
        filled.change_seq,
        filled.user_id,
        {%- for column in attributes %}
        coalesce(filled.{{ column }}, inherited.{{ column }})[1] as {{ column }},
        {%- endfor %}
        greatest(filled.batch_id, coalesce(inherited.batch_id, filled.batch_id)) as batch_id,
        greatest(filled.load_date, coalesce(inherited.load_date, filled.load_date)) as load_date
    from filled
    left join inherited
        on filled.user_id = inherited.user_id
        and filled.life = inherited.life
    where filled.unchanged_columns is not null
)

select * from completed
{%- if is_incremental() %}
except
select * from {{ this }}
{%- endif %}
