{%- set lists = {
    'films': 'films',
    'shortFilms': 'short_films',
    'tvShows': 'tv_shows',
    'videoGames': 'video_games',
    'parkAttractions': 'park_attractions',
    'allies': 'allies',
    'enemies': 'enemies',
} -%}
{%- set texts = {
    '_id': 'source_id',
    'name': 'name',
    'imageUrl': 'image_url',
    'sourceUrl': 'source_url',
    'url': 'url',
    'createdAt': 'created_at',
    'updatedAt': 'updated_at',
} -%}

with source as (

    select * from {{ source('disney', 'characters') }}

),

parsed as (

    select
        *,
        {{ json_object('payload', texts=texts.keys() | list, lists=lists.keys() | list) }} as record,
        case
            when {{ json_nests('payload', texts.keys() | list) }}
                then concat(
                    ','
                    {%- for key, column in texts.items() %},
                    case when {{ json_kind('payload', '$.' ~ key) }} in ('object', 'array') then '{{ column }},' else '' end
                    {%- endfor %}
                )
            else ''
        end as nested_columns
    from source

),

texts as (

    select
        *
        {%- for key, column in texts.items() %},
        case when strpos(nested_columns, ',{{ column }},') = 0 then {{ json_text('record', key) }} end as {{ column }}_text
        {%- endfor %}
    from parsed

),

renamed as (

    select
        ---------- ids
        batch_id,
        source_id_text as source_id,

        ---------- text
        nullif({{ trim_whitespace('name_text') }}, '') as name,
        nullif(image_url_text, '') as image_url,
        nullif(source_url_text, '') as source_url,
        nullif(url_text, '') as url,
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
        {{ parse_timestamp('created_at_text') }} as created_at,
        {{ parse_timestamp('updated_at_text') }} as updated_at,

        ---------- judgement
        nested_columns,
        created_at_text,
        updated_at_text
    from texts

),

identified as (

    select
        *,
        case when {{ regexp_matches('source_id', '^[0-9]+$') }} then try_cast(source_id as bigint) end as character_id,
        -- What was sent and is no value of its column's type is null above. Every record has a name.
        nullif(
            concat(
                ',',
                case when name is null then 'name,' else '' end
                {%- for column in ['image_url', 'source_url', 'url'] %},
                case when strpos(nested_columns, ',{{ column }},') > 0 then '{{ column }},' else '' end
                {%- endfor %}
                {%- for key, column in lists.items() %},
                case
                    when {{ column }} is null and {{ json_kind('payload', '$.' ~ key) }} not in ('array', 'null') then '{{ column }},'
                    else ''
                end
                {%- endfor %}
                {%- for column in ['created_at', 'updated_at'] %},
                case
                    when strpos(nested_columns, ',{{ column }},') > 0 or ({{ column }} is null and {{ column }}_text is not null)
                        then '{{ column }},'
                    else ''
                end
                {%- endfor %}
            ),
            ','
        ) as unreadable_columns,
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
                        when 'object'
                            then case
                                when coalesce({{ json_kind('payload', '$._id') }}, 'null') = 'null' then 'no _id'
                                else '_id is not an integer'
                            end
                        else 'not an object'
                    end
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
    batch_id,
    source_id,
    character_id,
    name,
    image_url,
    source_url,
    url,
    payload,
    {%- for column in lists.values() %}
    {{ column }},
    {%- endfor %}
    position,
    load_date,
    extracted_at,
    created_at,
    updated_at,
    unreadable_columns,
    record_hash,
    case
        when character_id is not null and occurrence > 1 then '_id occurs earlier in the crawl'
        else defect
    end as rejection_reason
from numbered
