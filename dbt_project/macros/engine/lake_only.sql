{#- What a macro of staging's does on an engine that builds refined only: parsing the project renders it in vain,
    compiling or running it is a mistake. Result: none; raises a compiler error that names the macro. #}
{% macro lake_only(macro_name, arguments) %}
    {%- if execute %}
        {{- exceptions.raise_compiler_error(
            macro_name ~ "() has no " ~ target.type ~ " form: staging and curated are built by DuckDB or Athena"
        ) }}
    {%- endif %}
{% endmacro %}
