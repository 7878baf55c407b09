{#- One query for all of a model's columns that are never null. A failure shows how many nulls each column has. #}
{% test never_null(model, columns) %}

select
    {%- for column in columns %}
    count(*) - count({{ column }}) as null_{{ column }}{{ ',' if not loop.last }}
    {%- endfor %}
from {{ model }}
having
    {%- for column in columns %}
    {{ 'or ' if not loop.first }}count(*) > count({{ column }})
    {%- endfor %}

{% endtest %}
