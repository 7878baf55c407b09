{#- The start of the five minutes in which an instant lies.
    Result: timestamp; null stays null. The same on every engine. #}
{% macro five_minutes(instant) -%}
    date_trunc('hour', {{ instant }})
    + (extract(minute from {{ instant }}) - extract(minute from {{ instant }}) % 5) * interval '1' minute
{%- endmacro %}
