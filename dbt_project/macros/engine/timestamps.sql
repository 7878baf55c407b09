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


{#- A timestamp as text, always with six digits of a second ('2026-01-31 12:00:00.123456').
    Result: varchar; null stays null. The same on every engine of the lake. #}
{% macro timestamp_text(instant) %}
    {{- return(adapter.dispatch('timestamp_text', 'lakehouse')(instant)) }}
{% endmacro %}

{% macro duckdb__timestamp_text(instant) -%}
    strftime({{ instant }}, '%Y-%m-%d %H:%M:%S.%f')
{%- endmacro %}

{% macro athena__timestamp_text(instant) -%}
    cast(cast({{ instant }} as timestamp(6)) as varchar)
{%- endmacro %}

{% macro default__timestamp_text() %}{{ lake_only('timestamp_text', varargs) }}{% endmacro %}
