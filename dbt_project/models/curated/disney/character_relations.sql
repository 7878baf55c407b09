{%- set latest = last_crawl(ref('characters')) -%}

with characters as (

    select * from {{ ref('characters') }}
    where removed_at is null

),

relations as (

    select * from {{ ref('stg_disney__character_relations') }}
    where {{ crawled_in(latest) }}

),

unambiguous as (

    -- Names repeat: only one that a single character bears says who is meant.
    select
        name,
        min(character_id) as character_id
    from characters
    group by name
    having count(*) = 1

)

select distinct
    characters.character_id,
    relations.relation,
    relations.related_name,
    unambiguous.character_id as related_character_id
from characters
inner join relations
    on characters.character_id = relations.character_id
    and characters.last_batch_id = relations.batch_id
left join unambiguous on relations.related_name = unambiguous.name
