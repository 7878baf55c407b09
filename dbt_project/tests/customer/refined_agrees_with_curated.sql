-- As many users, whose keys are hence unique, and as many deleted; as many changes; as many users in all states and
-- segments together, unless there are too few to be shown at all.
with counts as (
    select
        (select count(*) from {{ ref('users') }}) as users,
        (select count(*) from {{ ref('dim_users') }}) as dim_users,
        (select count(*) from {{ ref('users') }} where is_deleted) as deleted_users,
        (select count(*) from {{ ref('dim_users') }} where is_deleted) as deleted_dim_users,
        (select count(*) from {{ ref('user_changes') }}) as changes,
        (select coalesce(sum(changes), 0) from {{ ref('fct_user_changes') }}) as counted_changes,
        (select coalesce(sum(users), 0) from {{ ref('mart_users_by_state') }}) as users_in_states,
        (select coalesce(sum(users), 0) from {{ ref('mart_user_segments') }}) as users_in_segments
),

shown as (
    select
        *,
        case when users - deleted_users >= {{ var('k_anonymity') }} then users - deleted_users else 0 end as shown_users
    from counts
)

select * from shown
where
    users <> dim_users
    or deleted_users <> deleted_dim_users
    or changes <> counted_changes
    or shown_users <> users_in_states
    or shown_users <> users_in_segments
