with records as (

    select * from {{ ref('base_disney__characters') }}

)

select
    ---------- ids
    batch_id,
    character_id,

    ---------- text
    rejection_reason as reason,
    payload,

    ---------- numerics
    position,

    ---------- dates and timestamps
    load_date,
    extracted_at
from records
where rejection_reason is not null
