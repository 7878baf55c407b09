with appearances as (

    select * from {{ ref('character_appearances') }}

),

masking_key as (

    select * from {{ source('vault', 'masking_key') }}

)

select
    {{ pseudonym('cast(appearances.character_id as varchar)') }} as character_key,
    appearances.work_title,
    appearances.media_type,
    masking_key.key_id
from appearances
cross join masking_key
