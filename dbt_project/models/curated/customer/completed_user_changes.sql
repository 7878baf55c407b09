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
    inner join {{ ref('incomplete_moves') }} as moves on changes.user_id = moves.previous_user_id
    where {{ is_recent }}
    {%- else %}
    select user_id from {{ ref('user_changes') }}
    where unchanged_columns is not null
    {%- endif %}
{%- endset %}
{%- set any_incomplete = any_row(incomplete_users) %}

-- Large tables are read where they are needed, and once: engines may materialise a CTE that is referenced twice, a year's
-- rows of it, or read its tables again for each reference.
with moves as (
    select * from {{ ref('incomplete_moves') }}
    where {{ any_incomplete }}
),

incomplete_users as (
    {{- incomplete_users }}
    union
    select user_id from moves
    union
    select previous_user_id as user_id from moves
),

histories as (
    select
        changes.*,
        coalesce(changes.user_id = moves.user_id, false) as is_arriving,
        coalesce(changes.user_id = moves.previous_user_id, false) as is_leaving
    from {{ ref('user_changes') }} as changes
    inner join incomplete_users on changes.user_id = incomplete_users.user_id
    left join moves
        on changes.epoch = moves.epoch
        and changes.commit_lsn = moves.commit_lsn
        and changes.change_seq = moves.change_seq
    where {{ any_incomplete }}
),

lives as (
    select
        *,
        {{ life('is_arriving', 'is_leaving') }} as life,
        count(*) over (
            partition by user_id order by epoch, commit_lsn, change_seq
            rows between unbounded preceding and current row
        ) as changes_so_far
    from histories
),

-- A new key whose row was not sent whole goes on with the values that the old key had.
-- An array of one tells a value that is known to be null from one that is not known.
known as (
    select
        lives.epoch,
        lives.commit_lsn,
        lives.change_seq,
        lives.user_id,
        lives.unchanged_columns,
        lives.is_arriving,
        lives.is_leaving,
        lives.changes_so_far,
        coalesce(moves.first_user_id, lives.user_id) as first_user_id,
        coalesce(moves.first_life, lives.life) as first_life,
        lives.batch_id,
        lives.landed_at,
        lives.load_date,
        {%- for column in attributes %}
        case
            when not lives.is_leaving and strpos(coalesce(lives.unchanged_columns, ''), ',{{ column }},') = 0
                then array[lives.{{ column }}]
        end as {{ column }},
        -- What could not be read is as good as known: an older value must not come back in its place.
        case
            when not lives.is_leaving and strpos(coalesce(lives.unchanged_columns, ''), ',{{ column }},') = 0
                then strpos(coalesce(lives.unreadable_columns, ''), ',{{ column }},') > 0
        end as is_{{ column }}_unreadable{{ ',' if not loop.last }}
        {%- endfor %}
    from lives
    left join moves
        on lives.user_id = moves.user_id
        and lives.life = moves.life
),

filled as (
    select
        epoch,
        commit_lsn,
        change_seq,
        user_id,
        unchanged_columns,
        {%- for column in attributes %}
        {{ last_known(column) }} over so_far as {{ column }},
        {{ last_known('is_' ~ column ~ '_unreadable') }} over so_far as is_{{ column }}_unreadable,
        {%- endfor %}
        batch_id,
        max(landed_at) over so_far as landed_at,
        max(load_date) over so_far as load_date,
        -- A late move can take as many rows away as it brings, if a clock ran backwards: then the key has one more.
        max(batch_id) over so_far
        || '#' || cast(count(*) over so_far as varchar)
        || '#' || cast(changes_so_far as varchar) as row_version
    from known
    window so_far as (
        partition by first_user_id, first_life
        order by epoch, commit_lsn, change_seq, is_arriving
        rows between unbounded preceding and current row
    )
)

select
    epoch,
    commit_lsn,
    change_seq,
    user_id,
    {%- for column in attributes %}
    {{ column }}[1] as {{ column }},
    {%- endfor %}
    nullif(
        concat(
            ','
            {%- for column in attributes %},
            case when is_{{ column }}_unreadable then '{{ column }},' else '' end
            {%- endfor %}
        ),
        ','
    ) as unreadable_columns,
    batch_id,
    landed_at,
    load_date,
    row_version
from filled
where unchanged_columns is not null
