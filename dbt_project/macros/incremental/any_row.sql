{#- Whether a query finds anything in an incremental run, asked now: a query that begins with what is `false` costs nothing.
    Result: 'true' or 'false' as text; 'true' in a full refresh. #}
{% macro any_row(query) %}
    {%- if not is_incremental() or not may_query() %}{{ return('true') }}{% endif %}
    {{- return('true' if run_query(query ~ ' limit 1').rows | length else 'false') }}
{% endmacro %}
