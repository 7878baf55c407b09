{{ config(severity='warn', fail_calc='coalesce(sum(rejected), 0)') }}

-- Events of the last days that did not become a change: stg_customer__rejected_user_changes says why.
{%- set is_recent = "load_date >= date '" ~ landed_since(ref('user_changes')) ~ "'" %}

with events as (
    select epoch, commit_lsn, change_seq, batch_id from {{ source('customer', 'usuarios') }}
    where {{ is_recent }}
),

built as (
    select distinct epoch, commit_lsn, change_seq from {{ ref('user_changes') }}
    where (epoch, commit_lsn) in (select epoch, commit_lsn from events)
)

select
    events.batch_id,
    count(*) as rejected
from events
left join built
    on events.epoch = built.epoch
    and events.commit_lsn = built.commit_lsn
    and events.change_seq = built.change_seq
where built.epoch is null
group by events.batch_id
