{#- A select of a relation's rows, once per element of an array column: all its columns, the element as `value` and its
    place as `position`.
    Result: a query; position is from 1; a null or empty array gives no row. Quirk: DuckDB passes no filter through
    a lateral unnest, so that a view would read all of history; through one in the select list it does. #}
{% macro exploded(relation, array, value, position) %}
    {{- return(adapter.dispatch('exploded', 'lakehouse')(relation, array, value, position)) }}
{% endmacro %}

{% macro duckdb__exploded(relation, array, value, position) -%}
    select
        *,
        unnest({{ array }}) as {{ value }},
        generate_subscripts({{ array }}, 1) as {{ position }}
    from {{ relation }}
{%- endmacro %}

{% macro athena__exploded(relation, array, value, position) -%}
    select
        {{ relation }}.*,
        elements.{{ value }},
        elements.{{ position }}
    from {{ relation }}
    cross join unnest({{ relation }}.{{ array }}) with ordinality as elements ({{ value }}, {{ position }})
{%- endmacro %}

{% macro default__exploded() %}{{ lake_only('exploded', varargs) }}{% endmacro %}


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
