with characters as (

    select * from {{ ref('characters') }}

),

masking_key as (

    select * from {{ source('vault', 'masking_key') }}

)

select
    {{ pseudonym('cast(characters.character_id as varchar(20))') }} as character_key,
    {{ pseudonym(readable('characters.name')) }} as name_pseudonym,
    {{ mask_initials('characters.name') }} as masked_name,
    {{ mask_url('characters.image_url') }} as masked_image_url,
    {{ mask_url('characters.source_url') }} as masked_source_url,
    characters.first_seen_at,
    characters.changed_at,
    characters.removed_at,
    characters.removed_at is null as is_present,
    masking_key.key_id
from characters
cross join masking_key
