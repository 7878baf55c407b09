{{ config(severity='warn') }}

-- Keys in the latest crawl's records that staging does not know: the API says something new. `__v` is its database's own.
{%- set known = [
    '_id', '__v', 'name', 'imageUrl', 'sourceUrl', 'url', 'createdAt', 'updatedAt',
    'films', 'shortFilms', 'tvShows', 'videoGames', 'parkAttractions', 'allies', 'enemies',
] %}

with records as (
    select {{ json_keys('payload') }} as keys from {{ source('disney', 'characters') }}
    where {{ latest_batch(source('disney', 'characters')) }}
)

select
    names.key_name,
    count(*) as records
from records
cross join unnest(records.keys) as names (key_name)
where names.key_name not in ('{{ known | join("', '") }}')
group by names.key_name
