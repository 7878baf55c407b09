with records as (

    select * from {{ ref('base_disney__characters') }}

)

select
    ---------- ids
    batch_id,
    character_id,

    ---------- text
    name,
    image_url,
    source_url,
    url,
    record_hash,
    unreadable_columns,

    ---------- numerics
    position,

    ---------- dates and timestamps
    load_date,
    extracted_at,
    created_at,
    updated_at
from records
where rejection_reason is null
