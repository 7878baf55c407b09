{%- do require_one_key([ref('fct_character_appearances'), ref('dim_characters')]) -%}
with appearances as (

    select * from {{ ref('fct_character_appearances') }}

),

characters as (

    select * from {{ ref('dim_characters') }}

),

media_types as (

    select * from {{ ref('media_types') }}

),

reach as (

    select
        character_key,
        count(*) as works
    from appearances
    group by character_key

)

select
    appearances.work_title,
    appearances.media_type,
    media_types.media_type_name,
    media_types.is_screen,
    count(*) as characters,
    -- Characters that appear in nothing else.
    count(case when reach.works = 1 then 1 end) as exclusive_characters,
    min(characters.first_seen_at) as first_seen_at,
    max(characters.changed_at) as last_changed_at
from appearances
inner join characters on appearances.character_key = characters.character_key
inner join reach on appearances.character_key = reach.character_key
inner join media_types on appearances.media_type = media_types.media_type
group by
    appearances.work_title,
    appearances.media_type,
    media_types.media_type_name,
    media_types.is_screen
