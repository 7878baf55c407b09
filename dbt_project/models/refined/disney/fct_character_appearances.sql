with appearances as (

    -- Titles that differ beyond what is shown of them are one.
    select distinct
        character_id,
        {{ short_text('work_title', 256) }} as work_title,
        media_type
    from {{ ref('character_appearances') }}

),

masking_key as (

    select * from {{ source('vault', 'masking_key') }}

)

select
    {{ pseudonym('cast(appearances.character_id as varchar(20))') }} as character_key,
    appearances.work_title,
    appearances.media_type,
    masking_key.key_id
from appearances
cross join masking_key
