{#- `append` ignores the unique key; maintain_tables finds one row by it. -#}
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    unique_key=['epoch', 'commit_lsn', 'change_seq', 'user_id'],
    on_schema_change='fail',
    pre_hook="{{ forget_user_changes() }}",
) }}

{%- set is_new = new_batches(source('customer', 'usuarios')) %}

-- Raw is read where it is needed: an engine may keep a CTE that is named twice whole, a year's rows of it.
with changes as (
    select * from {{ ref('stg_customer__user_changes') }}
    where {{ is_new }}
),

batches as (
    select
        batch_id,
        epoch,
        min(commit_lsn) as first_lsn,
        max(commit_lsn) as last_lsn,
        count(*) - (max(change_seq) - min(change_seq) + 1) as surplus
    from {{ source('customer', 'usuarios') }}
    where {{ is_new }}
    group by batch_id, epoch
),

neighbours as (
    select
        *,
        max(last_lsn) over (
            partition by epoch order by first_lsn, batch_id rows between unbounded preceding and 1 preceding
        ) as reached_before,
        lead(first_lsn) over (partition by epoch order by first_lsn, batch_id) as next_lsn
    from batches
),

-- Batches hold ranges that do not meet, so only where two do can an event have landed twice: a year is not searched.
-- Or within a batch, where a stream delivers again what it has delivered: each event of a stream is a batch of its own.
overlapping as (
    select batch_id from neighbours
    where reached_before >= first_lsn or next_lsn <= last_lsn or (first_lsn = last_lsn and surplus > 0)
),

repeated as (
    select epoch, commit_lsn, change_seq, min((batch_id, load_date)) as landed_first from {{ source('customer', 'usuarios') }}
    where {{ is_new }} and batch_id in (select batch_id from overlapping)
    group by epoch, commit_lsn, change_seq
    having count(*) > 1
),
{%- if is_incremental() %}

known as (
    select distinct epoch, commit_lsn, change_seq from {{ this }}
    where (epoch, commit_lsn) in (select epoch, commit_lsn from {{ source('customer', 'usuarios') }} where {{ is_new }})
),
{%- endif %}

landed_once as (
    select changes.* from changes
    left join repeated
        on changes.epoch = repeated.epoch
        and changes.commit_lsn = repeated.commit_lsn
        and changes.change_seq = repeated.change_seq
    where repeated.epoch is null

    union all

    select distinct changes.* from {{ ref('stg_customer__user_changes') }} as changes
    inner join repeated
        on changes.epoch = repeated.epoch
        and changes.commit_lsn = repeated.commit_lsn
        and changes.change_seq = repeated.change_seq
    where
        {{ is_new }}
        and changes.batch_id in (select batch_id from overlapping)
        and (changes.batch_id, changes.load_date) = repeated.landed_first
)

select
    changes.epoch,
    changes.commit_lsn,
    changes.change_seq,
    changes.op,
    changes.committed_at,
    changes.user_id,
    changes.previous_user_id,
    changes.full_name,
    changes.email,
    changes.cpf,
    changes.phone,
    changes.birth_date,
    changes.postal_code,
    changes.city,
    changes.state_code,
    changes.monthly_income,
    changes.status,
    changes.notes,
    changes.created_at,
    changes.updated_at,
    changes.unchanged_columns,
    changes.unreadable_columns,
    changes.batch_id,
    changes.landed_at,
    changes.load_date
from landed_once as changes
{%- if is_incremental() %}
left join known
    on changes.epoch = known.epoch
    and changes.commit_lsn = known.commit_lsn
    and changes.change_seq = known.change_seq
where known.epoch is null
{%- endif %}
