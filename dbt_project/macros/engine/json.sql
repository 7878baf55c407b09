{# JSON text to values. Only staging parses, so Redshift, which reads curated, needs none of these. #}


{#- The document parsed once: an engine's own value, to be read by json_text() and json_list() in a later CTE.
    Result: opaque. Never fails: what is no JSON object gives a value (or null) whose every key reads as null.
    Quirk: DuckDB reads the named keys only, by name and case; Athena keeps the whole document. #}
{% macro json_object(document, texts=[], lists=[]) %}
    {{- return(adapter.dispatch('json_object', 'lakehouse')(document, texts, lists)) }}
{% endmacro %}

{% macro duckdb__json_object(document, texts, lists) -%}
    {%- set structure = {} -%}
    {%- for key in texts %}{% do structure.update({key: 'VARCHAR'}) %}{% endfor -%}
    {%- for key in lists %}{% do structure.update({key: ['VARCHAR']}) %}{% endfor -%}
    try(from_json({{ document }}, '{{ tojson(structure) }}'))
{%- endmacro %}

{% macro athena__json_object(document, texts, lists) -%}
    try(json_parse({{ document }}))
{%- endmacro %}

{% macro default__json_object() %}{{ lake_only('json_object', varargs) }}{% endmacro %}


{#- The text of one key of a json_object() value; `key` must be among its `texts`.
    Result: varchar; null where the key is absent, JSON null or the document was no object. A number or boolean
    reads as its text. Quirk: of an object or array DuckDB gives the JSON text, Athena null; where that matters, ask
    json_nests() first. #}
{% macro json_text(object, key) %}
    {{- return(adapter.dispatch('json_text', 'lakehouse')(object, key)) }}
{% endmacro %}

{% macro duckdb__json_text(object, key) -%}
    {{ object }}."{{ key }}"
{%- endmacro %}

{% macro athena__json_text(object, key) -%}
    json_extract_scalar({{ object }}, '$["{{ key }}"]')
{%- endmacro %}

{% macro default__json_text() %}{{ lake_only('json_text', varargs) }}{% endmacro %}


{#- The texts in one key of a json_object() value that holds an array; `key` must be among its `lists`.
    Result: array of varchar, in the document's order; null where the key is absent, JSON null or no array.
    Elements that are JSON null stay null; one that is a number, boolean, object or array reads as its JSON text. Quirk: in
    such a text Athena leaves out blanks and sorts keys, DuckDB keeps it as it was. #}
{% macro json_list(object, key) %}
    {{- return(adapter.dispatch('json_list', 'lakehouse')(object, key)) }}
{% endmacro %}

{% macro duckdb__json_list(object, key) -%}
    {{ object }}."{{ key }}"
{%- endmacro %}

{% macro athena__json_list(object, key) -%}
    transform(
        try_cast(json_extract({{ object }}, '$["{{ key }}"]') as array(json)),
        item -> coalesce(json_extract_scalar(item, '$'), nullif(json_format(item), 'null'))
    )
{%- endmacro %}

{% macro default__json_list() %}{{ lake_only('json_list', varargs) }}{% endmacro %}


{#- The kind of JSON that stands at a path of a document (text, not a json_object() value).
    Result: 'object', 'array', 'string', 'number', 'boolean' or 'null'; SQL null where the document is no JSON or
    has nothing at that path. #}
{% macro json_kind(document, path='$') %}
    {{- return(adapter.dispatch('json_kind', 'lakehouse')(document, path)) }}
{% endmacro %}

{% macro duckdb__json_kind(document, path) -%}
    case try(json_type({{ document }}, '{{ path }}'))
        when 'OBJECT' then 'object'
        when 'ARRAY' then 'array'
        when 'VARCHAR' then 'string'
        when 'BOOLEAN' then 'boolean'
        when 'NULL' then 'null'
        when 'BIGINT' then 'number'
        when 'UBIGINT' then 'number'
        when 'HUGEINT' then 'number'
        when 'DOUBLE' then 'number'
    end
{%- endmacro %}

{% macro athena__json_kind(document, path) -%}
    case substr(json_format(json_extract(try(json_parse({{ document }})), '{{ path }}')), 1, 1)
        when '{' then 'object'
        when '[' then 'array'
        when '"' then 'string'
        when 't' then 'boolean'
        when 'f' then 'boolean'
        when 'n' then 'null'
        when null then null
        else case when json_extract(try(json_parse({{ document }})), '{{ path }}') is not null then 'number' end
    end
{%- endmacro %}

{% macro default__json_kind() %}{{ lake_only('json_kind', varargs) }}{% endmacro %}


{#- Whether one of the keys holds an object or an array, where a text is expected.
    Result: boolean; false where the document is null or no JSON. A pattern looks first for a colon that no text, number,
    boolean or null follows: most documents have none and are not parsed. #}
{% macro json_nests(document, keys) -%}
    coalesce(
        {{ regexp_matches(document, ': *[^ "0-9tfn-]') }}
        and (
            {%- for key in keys %}
            coalesce({{ json_kind(document, '$.' ~ key) }}, '') in ('object', 'array'){{ ' or' if not loop.last }}
            {%- endfor %}
        ),
        false
    )
{%- endmacro %}


{#- The first-level keys of a document (text).
    Result: array of varchar; null or empty where the document is no JSON object. #}
{% macro json_keys(document) %}
    {{- return(adapter.dispatch('json_keys', 'lakehouse')(document)) }}
{% endmacro %}

{% macro duckdb__json_keys(document) -%}
    try(json_keys({{ document }}))
{%- endmacro %}

{% macro athena__json_keys(document) -%}
    map_keys(try(cast(json_parse({{ document }}) as map(varchar, json))))
{%- endmacro %}

{% macro default__json_keys() %}{{ lake_only('json_keys', varargs) }}{% endmacro %}
