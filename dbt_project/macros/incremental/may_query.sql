{#- Whether a macro may ask the engine for a literal: when models or tests are run. Compiling, parsing and the docs must
    also work where nothing was built yet.
    Result: boolean. #}
{% macro may_query() %}
    {{- return(execute and flags.WHICH in ('build', 'run', 'test', 'retry')) }}
{% endmacro %}
