{%- set lists = {
    'films': 'films',
    'shortFilms': 'short_films',
    'tvShows': 'tv_shows',
    'videoGames': 'video_games',
    'parkAttractions': 'park_attractions',
} -%}

with records as (

    select * from {{ ref('base_disney__characters') }}
    where rejection_reason is null

),

works as (

    {% for key, column in lists.items() -%}
    select
        records.batch_id,
        records.character_id,
        '{{ key }}' as source_list,
        {{ trim_whitespace('listed.title') }} as work_title,
        listed.position,
        records.load_date,
        records.extracted_at
    from records
    cross join unnest(records.{{ column }}) with ordinality as listed (title, position)
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
)

select
    ---------- ids
    batch_id,
    character_id,

    ---------- text
    source_list,
    work_title,

    ---------- numerics
    position,

    ---------- dates and timestamps
    load_date,
    extracted_at
from works
where work_title <> ''
