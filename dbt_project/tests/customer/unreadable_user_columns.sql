{{ config(severity='warn', fail_calc='coalesce(sum(unreadable), 0)') }}

-- Values of the last days that could not be read as their column's type, by column: they are null in curated, raw has the text.
with changes as (
    select unreadable_columns from {{ ref('user_changes') }}
    where load_date >= date '{{ landed_since(ref('user_changes')) }}' and unreadable_columns is not null
),

expected (column_name) as (
    values
    {%- for column in user_attributes() %}
    ('{{ column }}'){{ ',' if not loop.last }}
    {%- endfor %}
)

select
    expected.column_name,
    count(*) as unreadable
from changes
inner join expected on strpos(changes.unreadable_columns, ',' || expected.column_name || ',') > 0
group by expected.column_name
