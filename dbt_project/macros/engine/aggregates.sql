{#- The value in the row that is greatest by `order`, also where that value is null.
    Result: the value's type. Ties: any of them. Quirk: DuckDB's max_by() passes over null values, Athena's does not. #}
{% macro value_at_max(value, order) %}
    {{- return(adapter.dispatch('value_at_max', 'lakehouse')(value, order)) }}
{% endmacro %}

{% macro duckdb__value_at_max(value, order) -%}
    arg_max_null({{ value }}, {{ order }})
{%- endmacro %}

{% macro athena__value_at_max(value, order) -%}
    max_by({{ value }}, {{ order }})
{%- endmacro %}

{% macro default__value_at_max() %}{{ lake_only('value_at_max', varargs) }}{% endmacro %}
