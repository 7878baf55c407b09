{# Timestamps. In our tables a timestamp is naive and means UTC; Iceberg wants microseconds. #}


{#- A raw table's instant as our naive UTC timestamp.
    Result: timestamp (microseconds); null stays null. Quirk: DuckDB reads raw's Parquet as timestamptz, Athena as a
    timestamp in UTC. #}
{% macro utc_timestamp(instant) %}
    {{- return(adapter.dispatch('utc_timestamp', 'lakehouse')(instant)) }}
{% endmacro %}

{% macro duckdb__utc_timestamp(instant) -%}
    cast({{ instant }} at time zone 'UTC' as timestamp)
{%- endmacro %}

{% macro athena__utc_timestamp(instant) -%}
    cast({{ instant }} as timestamp(6))
{%- endmacro %}

{% macro default__utc_timestamp() %}{{ lake_only('utc_timestamp', varargs) }}{% endmacro %}


{#- Text in ISO 8601 ('2026-01-31T12:00:00.123Z') or as PostgreSQL prints it ('2026-01-31 12:00:00.123456+00').
    Result: naive UTC timestamp (microseconds); null where the text is none. Without an offset it is taken as UTC. #}
{% macro parse_timestamp(text) %}
    {{- return(adapter.dispatch('parse_timestamp', 'lakehouse')(text)) }}
{% endmacro %}

{% macro duckdb__parse_timestamp(text) -%}
    try_cast({{ text }} as timestamptz) at time zone 'UTC'
{%- endmacro %}

{#- Athena reads ISO 8601 only: a T in the middle, minutes in the offset. -#}
{% macro athena__parse_timestamp(text) -%}
    cast(
        try(from_iso8601_timestamp_nanos(
            regexp_replace(replace({{ text }}, ' ', 'T'), '([+-][0-9]{2})$', '$1:00')
        )) at time zone 'UTC' as timestamp(6)
    )
{%- endmacro %}

{% macro default__parse_timestamp() %}{{ lake_only('parse_timestamp', varargs) }}{% endmacro %}
