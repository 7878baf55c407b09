{#- The last value that is not null, as a window function; write `over (...)` after it.
    Result: the type of `value`. #}
{% macro last_known(value) %}
    {{- return(adapter.dispatch('last_known', 'lakehouse')(value)) }}
{% endmacro %}

{% macro duckdb__last_known(value) -%}
    last_value({{ value }} ignore nulls)
{%- endmacro %}

{% macro default__last_known(value) -%}
    last_value({{ value }}) ignore nulls
{%- endmacro %}
