{{ config(severity='warn', fail_calc='coalesce(sum(unreadable), 0)') }}

-- Values of the latest crawl that could not be read as their column's type, by column: they are null, raw has the text.
{%- set columns = [
    'name', 'image_url', 'source_url', 'url', 'films', 'short_films', 'tv_shows', 'video_games', 'park_attractions', 'allies',
    'enemies', 'created_at', 'updated_at',
] %}

with records as (
    select unreadable_columns from {{ ref('stg_disney__characters') }}
    where {{ latest_batch(source('disney', 'characters')) }} and unreadable_columns is not null
),

expected (column_name) as (
    values
    {%- for column in columns %}
    ('{{ column }}'){{ ',' if not loop.last }}
    {%- endfor %}
)

select
    expected.column_name,
    count(*) as unreadable
from records
inner join expected on strpos(records.unreadable_columns, ',' || expected.column_name || ',') > 0
group by expected.column_name
