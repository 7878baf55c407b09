{#- The columns are a key: present (but for those in `nullable`) and unique, among all rows, for what the latest batch
    brought. Each batch was once the latest, so the whole table has the key, and a year is not searched every time. #}
{% test key_of_latest_batch(model, columns, nullable=[]) %}
{%- set latest = latest_batch(model) %}

with latest as (
    select distinct {{ columns | join(', ') }} from {{ model }}
    where {{ latest }}
)

select
    count(*) as occurrences
from {{ model }} as found
inner join latest
    on {% for column in columns -%}
    {{ 'and ' if not loop.first }}found.{{ column }} {{ 'is not distinct from' if column in nullable else '=' }} latest.{{ column }}
    {% endfor %}
group by {% for column in columns %}found.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
having count(*) > 1

union all

select 0 as occurrences from latest
where {% for column in columns if column not in nullable %}{{ column }} is null{{ ' or ' if not loop.last }}{% endfor %}
{% endtest %}
