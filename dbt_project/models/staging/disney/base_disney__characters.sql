{%- set lists = {
    'films': 'films',
    'shortFilms': 'short_films',
    'tvShows': 'tv_shows',
    'videoGames': 'video_games',
    'parkAttractions': 'park_attractions',
    'allies': 'allies',
    'enemies': 'enemies',
} -%}

with source as (

    select * from {{ source('disney', 'characters') }}

),

parsed as (

    select
        *,
        {{ json_object(
            'payload',
            texts=['_id', 'name', 'imageUrl', 'sourceUrl', 'url', 'createdAt', 'updatedAt'],
            lists=lists.keys() | list,
        ) }} as record
    from source

),

renamed as (

    select
        ---------- ids
        batch_id,
        {{ json_text('record', '_id') }} as source_id,

        ---------- text
        nullif({{ trim_whitespace(json_text('record', 'name')) }}, '') as name,
        nullif({{ json_text('record', 'imageUrl') }}, '') as image_url,
        nullif({{ json_text('record', 'sourceUrl') }}, '') as source_url,
        nullif({{ json_text('record', 'url') }}, '') as url,
        payload,

        ---------- arrays
        {%- for key, column in lists.items() %}
        {{ json_list('record', key) }} as {{ column }},
        {%- endfor %}

        ---------- numerics
        position,

        ---------- dates and timestamps
        load_date,
        {{ utc_timestamp('extracted_at') }} as extracted_at,
        {{ parse_timestamp(json_text('record', 'createdAt')) }} as created_at,
        {{ parse_timestamp(json_text('record', 'updatedAt')) }} as updated_at
    from parsed

),

identified as (

    select
        *,
        case when {{ regexp_matches('source_id', '^[0-9]+$') }} then try_cast(source_id as bigint) end as character_id,
        -- What the record says, not its text: neither the order of keys nor a touch that changes only its times counts.
        concat_ws(
            chr(31),
            coalesce(name, ''),
            coalesce(image_url, ''),
            coalesce(source_url, ''),
            coalesce(url, '')
            {%- for column in lists.values() %},
            coalesce({{ array_text(column, 'chr(30)') }}, '')
            {%- endfor %}
        ) as content
    from renamed

),

judged as (

    select
        *,
        {{ sha256_text('content') }} as record_hash,
        case
            when character_id is null
                then
                    case coalesce({{ json_kind('payload') }}, 'malformed')
                        when 'malformed' then 'malformed JSON'
                        when 'object' then case when source_id is null then 'no _id' else '_id is not an integer' end
                        else 'not an object'
                    end
            when name is null then 'no name'
            {%- for key, column in lists.items() %}
            when {{ column }} is null and {{ json_kind('payload', '$.' ~ key) }} not in ('array', 'null')
                then '{{ key }} is not an array'
            {%- endfor %}
        end as defect
    from identified

),

numbered as (

    -- load_date adds nothing to the key, but lets a filter on it pass through the window to the files.
    select
        *,
        row_number() over (partition by load_date, batch_id, character_id order by position) as occurrence
    from judged

)

select
    *,
    case
        when character_id is not null and occurrence > 1 then '_id occurs earlier in the crawl'
        else defect
    end as rejection_reason
from numbered
