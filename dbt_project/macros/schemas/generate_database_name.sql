{# DuckDB names a database after its file. dbt-duckdb derives that name from the path as if it were a URL, so a ? or # in a
   folder's name would cut it off. #}
{% macro generate_database_name(custom_database_name=none, node=none) -%}
    {{ target.path.split('/')[-1].lstrip('.').split('.')[0] if target.type == 'duckdb' else target.database }}
{%- endmacro %}
