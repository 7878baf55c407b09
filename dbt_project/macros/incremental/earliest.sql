{#- The least value of a timestamp column among a relation's new rows (`is_new`: what new_batches() gave), read now, so
    that the query holds it as a literal by which an engine prunes.
    Result: text, 'YYYY-MM-DD HH:MM:SS...'; the beginning of 1970 in a full refresh or where nothing is new. #}
{% macro earliest(column, relation, is_new) %}
    {%- set least = run_query("select min(" ~ column ~ ") from " ~ relation ~ " where " ~ is_new).rows[0][0]
        if execute and is_new not in ('true', 'false') else none %}
    {{- return((least or modules.datetime.datetime(1970, 1, 1)) | string) }}
{% endmacro %}
