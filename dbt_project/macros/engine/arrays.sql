{# Arrays. To rows needs no macro: `cross join unnest(a) with ordinality as x (value, position)` is the same on DuckDB
   and Athena (position from 1; a null or empty array gives no row). #}


{#- The elements as one text.
    Result: varchar; null for a null array, '' for an empty one. Null elements are left out. #}
{% macro array_text(array, separator) %}
    {{- return(adapter.dispatch('array_text', 'lakehouse')(array, separator)) }}
{% endmacro %}

{% macro duckdb__array_text(array, separator) -%}
    array_to_string({{ array }}, {{ separator }})
{%- endmacro %}

{% macro athena__array_text(array, separator) -%}
    array_join({{ array }}, {{ separator }})
{%- endmacro %}

{% macro default__array_text() %}{{ lake_only('array_text', varargs) }}{% endmacro %}
