{# Text to values. A cast alone takes more than the standard forms ('infinity', '1_000', ' 7 ', a year of five digits,
   '24:00:00'), and each engine takes something else. So a pattern decides, and the engine only computes. `text` appears
   several times in what a macro gives: let it be a column. #}

{#- A date's pattern, without anchors. Result: a regular expression. #}
{%- macro date_pattern() -%}
    ([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}
{%- endmacro -%}

{#- A timestamp's pattern, without anchors. Result: a regular expression. #}
{%- macro timestamp_pattern() -%}
    {{ date_pattern() }}[ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.][0-9]+)?)?(Z|[+-](0[0-9]|1[0-3])(:[0-5][0-9])?|[+-]14(:00)?)?
{%- endmacro -%}


{#- A timestamp in ISO 8601 ('2026-01-31T12:00:00.123Z') or as PostgreSQL prints it ('2026-01-31 12:00:00.123456+00').
    Result: naive UTC timestamp (microseconds; further digits are cut); null where the text is none: years are 0001 to
    9999, offsets whole minutes up to 14 hours. Without an offset the text is taken as UTC. #}
{% macro parse_timestamp(text) %}
    {{- return(adapter.dispatch('parse_timestamp', 'lakehouse')(text)) }}
{% endmacro %}

{% macro duckdb__parse_timestamp(text) -%}
    case
        when {{ regexp_matches(text, '^' ~ timestamp_pattern() ~ '$') }} then try_cast({{ text }} as timestamptz) at time zone 'UTC'
    end
{%- endmacro %}

{#- Athena reads ISO 8601 only: a T in the middle, minutes in the offset. It rounds what is finer than it keeps. -#}
{% macro athena__parse_timestamp(text) -%}
    case
        when {{ regexp_matches(text, '^' ~ timestamp_pattern() ~ '$') }}
            then cast(
                try(from_iso8601_timestamp_nanos(regexp_replace(
                    regexp_replace(replace({{ text }}, ' ', 'T'), '([.][0-9]{6})[0-9]+', '$1'), '([+-][0-9]{2})$', '$1:00'
                ))) at time zone 'UTC' as timestamp(6)
            )
    end
{%- endmacro %}

{% macro default__parse_timestamp() %}{{ lake_only('parse_timestamp', varargs) }}{% endmacro %}


{#- A date in ISO 8601 ('2026-01-31').
    Result: date; null where the text is none: years are 0001 to 9999. The same on every engine. #}
{% macro parse_date(text) -%}
    case when {{ regexp_matches(text, '^' ~ date_pattern() ~ '$') }} then try_cast({{ text }} as date) end
{%- endmacro %}


{#- A decimal number in plain digits ('-1234.50').
    Result: decimal(precision, scale), rounded half away from zero; null where the text is none or the number does not fit. The
    same on every engine. #}
{% macro parse_decimal(text, precision, scale) -%}
    case
        when {{ regexp_matches(text, '^-?[0-9]+([.][0-9]+)?$') }} then try_cast({{ text }} as decimal({{ precision }}, {{ scale }}))
    end
{%- endmacro %}


{#- A whole number as PostgreSQL prints it ('-42'); engines cast '1.5' or '1e3' to one too.
    Result: bigint; null where the text is none or the number does not fit. The same on every engine. #}
{% macro parse_bigint(text) -%}
    case when {{ regexp_matches(text, '^(0|-?[1-9][0-9]*)$') }} then try_cast({{ text }} as bigint) end
{%- endmacro %}
