{%- set keys = ['gap_reason', 'gap_noticed_at', 'gap_former_epoch', 'gap_from_lsn', 'gap_from_time'] %}

with snapshots as (
    select
        epoch,
        commit_lsn,
        committed_at,
        batch_id,
        landed_at,
        load_date,
        {{ json_object('source', texts=keys) }} as source
    from {{ source('customer', 'usuarios') }}
    where op = 't'
),

texts as (
    select
        epoch,
        commit_lsn,
        committed_at,
        batch_id,
        landed_at,
        load_date,
        {%- for key in keys %}
        {{ json_text('source', key) }} as {{ key }}{{ ',' if not loop.last }}
        {%- endfor %}
    from snapshots
)

select
    epoch,
    try_cast(gap_former_epoch as integer) as former_epoch,
    gap_reason as reason,
    try_cast(gap_from_lsn as bigint) as from_lsn,
    {{ parse_timestamp('gap_from_time') }} as from_time,
    commit_lsn + 1 as to_lsn,
    {{ utc_timestamp('committed_at') }} as to_time,
    {{ parse_timestamp('gap_noticed_at') }} as noticed_at,
    batch_id,
    {{ utc_timestamp('landed_at') }} as landed_at,
    load_date
from texts
where gap_reason is not null
