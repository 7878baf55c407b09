with changes as (
    select * from {{ ref('base_customer__user_changes') }}
)

select
    epoch,
    commit_lsn,
    change_seq,
    op,
    committed_at,
    rejection_reason as reason,
    before,
    after,
    batch_id,
    landed_at,
    load_date
from changes
where rejection_reason is not null
