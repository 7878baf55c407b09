-- All pseudonyms in refined were made by one key: those of two never join. Shows the tables and what keys they have.
-- A domain that was never built has none.
{%- set tables = [] %}
{%- for table in [ref('dim_users'), ref('dim_characters'), ref('fct_character_appearances')] %}
    {%- if not may_query() or load_relation(table) is not none %}
        {%- do tables.append(table) %}
    {%- endif %}
{%- endfor %}

with keys as (
    {%- for table in tables %}
    select
        '{{ table.identifier }}' as table_name,
        min(key_id) as least_key_id,
        max(key_id) as greatest_key_id
    from {{ table }}
    {{- '\n    union all' if not loop.last }}
    {%- endfor %}
)

select * from keys
where (select min(every_key.least_key_id) from keys as every_key) <> (select max(every_key.greatest_key_id) from keys as every_key)
