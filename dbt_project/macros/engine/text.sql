{# Text by regular expression. Keep to what RE2 (DuckDB), Java (Athena) and POSIX (Redshift) share: classes of literal
   characters, + and *, ^ and $; no backslash, which Redshift would read as its string's own escape. #}


{#- Every match of the pattern replaced by a literal text.
    Result: varchar; null stays null. #}
{% macro regexp_replace_all(text, pattern, replacement) %}
    {{- return(adapter.dispatch('regexp_replace_all', 'lakehouse')(text, pattern, replacement)) }}
{% endmacro %}

{% macro duckdb__regexp_replace_all(text, pattern, replacement) -%}
    regexp_replace({{ text }}, '{{ pattern }}', '{{ replacement }}', 'g')
{%- endmacro %}

{% macro default__regexp_replace_all(text, pattern, replacement) -%}
    regexp_replace({{ text }}, '{{ pattern }}', '{{ replacement }}')
{%- endmacro %}


{#- Whether the pattern matches somewhere in the text.
    Result: boolean; null stays null. #}
{% macro regexp_matches(text, pattern) %}
    {{- return(adapter.dispatch('regexp_matches', 'lakehouse')(text, pattern)) }}
{% endmacro %}

{% macro duckdb__regexp_matches(text, pattern) -%}
    regexp_matches({{ text }}, '{{ pattern }}')
{%- endmacro %}

{#- In Java's dialect $ also matches before a line feed at the end; \z does not. -#}
{% macro athena__regexp_matches(text, pattern) -%}
    regexp_like({{ text }}, '{{ pattern | replace('$', '\\z') }}')
{%- endmacro %}

{% macro redshift__regexp_matches(text, pattern) -%}
    ({{ text }} ~ '{{ pattern }}')
{%- endmacro %}


{#- The text without ASCII white space (tab, line feed, vertical tab, form feed, carriage return, space) at its ends.
    Result: varchar; null stays null. Other Unicode spaces stay. #}
{% macro trim_whitespace(text) %}
    {{- return(adapter.dispatch('trim_whitespace', 'lakehouse')(text)) }}
{% endmacro %}

{% macro duckdb__trim_whitespace(text) -%}
    trim({{ text }}, chr(9) || chr(10) || chr(11) || chr(12) || chr(13) || ' ')
{%- endmacro %}

{% macro athena__trim_whitespace(text) -%}
    regexp_replace({{ text }}, '\A[\t-\r ]+|[\t-\r ]+\z')
{%- endmacro %}

{% macro redshift__trim_whitespace(text) -%}
    btrim({{ text }}, chr(9) || chr(10) || chr(11) || chr(12) || chr(13) || ' ')
{%- endmacro %}


{#- The text without spaces (U+0020 alone) at its end: PostgreSQL pads a char(n) with them, and Redshift leaves them out when it
    compares, which no other engine does.
    Result: varchar; null stays null. #}
{% macro trim_trailing_spaces(text) %}
    {{- return(adapter.dispatch('trim_trailing_spaces', 'lakehouse')(text)) }}
{% endmacro %}

{% macro duckdb__trim_trailing_spaces(text) -%}
    rtrim({{ text }}, ' ')
{%- endmacro %}

{% macro athena__trim_trailing_spaces(text) -%}
    regexp_replace({{ text }}, ' +\z')
{%- endmacro %}

{% macro default__trim_trailing_spaces() %}{{ lake_only('trim_trailing_spaces', varargs) }}{% endmacro %}
