-- Users whom the latest batch changed, against their changes of the last days: the last one won, and who is gone has left
-- nothing. That it won over older ones was shown when those were the last.
with users as (
    select * from {{ ref('users') }}
    where {{ latest_batch(ref('users')) }}
),

changes as (
    select
        user_id,
        max((epoch, commit_lsn, change_seq)) as position
    from {{ ref('user_changes') }}
    where user_id in (select user_id from users) and load_date >= date '{{ landed_since(ref('users')) }}'
    group by user_id
)

select count(*) as wrong from users
left join changes on users.user_id = changes.user_id
where
    changes.position > (users.epoch, users.commit_lsn, users.change_seq)
    or (users.op in ('d', 'e') and not users.is_deleted)
    or users.is_deleted <> (users.deleted_at is not null)
    or (users.is_deleted and coalesce({% for column in user_attributes().keys() | list + ['unreadable_columns'] %}cast(users.{{ column }} as varchar){{ ', ' if not loop.last }}{% endfor %}) is not null)
having count(*) > 0
