{#- The value that a map of texts has for a key.
    Result: varchar; null where the map is null or has no such key. Quirk: Athena's subscript fails without the key. #}
{% macro map_value(map, key) %}
    {{- return(adapter.dispatch('map_value', 'lakehouse')(map, key)) }}
{% endmacro %}

{% macro duckdb__map_value(map, key) -%}
    {{ map }}['{{ key }}']
{%- endmacro %}

{% macro athena__map_value(map, key) -%}
    element_at({{ map }}, '{{ key }}')
{%- endmacro %}

{% macro default__map_value() %}{{ lake_only('map_value', varargs) }}{% endmacro %}
