{#- How DuckDB loads a seed: as dbt-duckdb has it, which pastes the file's path into SQL without quoting it. #}
{% macro duckdb__load_csv_rows(model, agate_table) %}
    {%- set file = modules.re.sub('([*?[])', '[\\1]', adapter.get_seed_file_path(model)) | replace("'", "''") %}
    {%- set statement = "copy " ~ this ~ " from '" ~ file ~ "' (format csv, header true)" %}
    {%- do adapter.add_query(statement, abridge_sql_log=True) %}
    {{- return(statement) }}
{% endmacro %}
