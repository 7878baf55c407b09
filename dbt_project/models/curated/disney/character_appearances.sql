{%- set latest = last_crawl(ref('characters')) -%}

with characters as (

    select * from {{ ref('characters') }}
    where removed_at is null

),

works as (

    select * from {{ ref('stg_disney__character_works') }}
    where {{ crawled_in(latest) }}

),

media_types as (

    select * from {{ ref('media_types') }}

)

-- The source repeats titles within a list.
select distinct
    characters.character_id,
    works.work_title,
    media_types.media_type
from characters
inner join works
    on characters.character_id = works.character_id
    and characters.last_batch_id = works.batch_id
inner join media_types on works.source_list = media_types.source_list
