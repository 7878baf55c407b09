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

listed as (

    select
        records.batch_id,
        records.character_id,
        records.load_date,
        records.extracted_at,
        lists.source_list,
        case lists.source_list
            {%- for key, column in lists.items() %}
            when '{{ key }}' then records.{{ column }}
            {%- endfor %}
        end as titles
    from records
    cross join (
        values {% for key in lists %}('{{ key }}'){{ ', ' if not loop.last }}{% endfor %}
    ) as lists (source_list)

),

works as (

    {{ exploded('listed', array='titles', value='title', position='position') }}

)

select
    ---------- ids
    batch_id,
    character_id,

    ---------- text
    source_list,
    {{ trim_whitespace('title') }} as work_title,

    ---------- numerics
    position,

    ---------- dates and timestamps
    load_date,
    extracted_at
from works
where {{ trim_whitespace('title') }} <> ''
