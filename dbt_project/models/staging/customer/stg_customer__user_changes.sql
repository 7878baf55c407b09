with changes as (
    select * from {{ ref('base_customer__user_changes') }}
    where rejection_reason is null
),

moved_away as (
    -- `before` stands first: an engine skips all that has none without parsing it
    select * from {{ ref('base_customer__user_changes') }}
    where before is not null and previous_user_id is not null and rejection_reason is null
)

select
    epoch,
    commit_lsn,
    change_seq,
    op,
    committed_at,
    user_id,
    previous_user_id,
    full_name,
    email,
    cpf,
    phone,
    birth_date,
    postal_code,
    city,
    state_code,
    monthly_income,
    status,
    notes,
    created_at,
    updated_at,
    unchanged_columns,
    unreadable_columns,
    batch_id,
    landed_at,
    load_date
from changes

union all

select
    epoch,
    commit_lsn,
    change_seq,
    'd' as op,
    committed_at,
    previous_user_id as user_id,
    null as previous_user_id,
    null as full_name,
    null as email,
    null as cpf,
    null as phone,
    null as birth_date,
    null as postal_code,
    null as city,
    null as state_code,
    null as monthly_income,
    null as status,
    null as notes,
    null as created_at,
    null as updated_at,
    null as unchanged_columns,
    null as unreadable_columns,
    batch_id,
    landed_at,
    load_date
from moved_away
