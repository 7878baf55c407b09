{#- A raw table's instant as our naive UTC timestamp: in our tables a timestamp has no offset and means UTC.
    Result: timestamp in whole milliseconds, rounded half up; null stays null. Raw has microseconds, but Athena reads an external
    table's timestamps so, and a value means the same on every engine. Iceberg wants a timestamp of microseconds. #}
{% macro utc_timestamp(instant) %}
    {{- return(adapter.dispatch('utc_timestamp', 'lakehouse')(instant)) }}
{% endmacro %}

{#- DuckDB reads raw's Parquet as timestamptz. #}
{% macro duckdb__utc_timestamp(instant) -%}
    date_trunc('milliseconds', cast({{ instant }} at time zone 'UTC' as timestamp) + interval '500 microseconds')
{%- endmacro %}

{% macro athena__utc_timestamp(instant) -%}
    cast({{ instant }} as timestamp(6))
{%- endmacro %}

{% macro default__utc_timestamp() %}{{ lake_only('utc_timestamp', varargs) }}{% endmacro %}
