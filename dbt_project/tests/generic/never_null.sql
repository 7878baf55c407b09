{#- One query for all of a model's columns that are never null. A failure shows how many nulls each column has. #}
{% test never_null(model, columns) %}

{%- set nulls = [] %}
{%- for column in columns %}
    {%- do nulls.append('count(*) - count(' ~ column ~ ')') %}
{%- endfor %}

select
    {%- for column in columns %}
    {{ nulls[loop.index0] }} as null_{{ column }}{{ ',' if not loop.last }}
    {%- endfor %}
from {{ model }}
having {{ nulls | join(' + ') }} > 0

{% endtest %}
