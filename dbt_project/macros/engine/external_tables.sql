{# Run-operations that make what dbt itself does not: the catalogue's entries for what lies outside of it. #}


{#- Athena: an external table over Parquet for each source that says in config.meta where it lies (`location`). Columns
    come from the source's yml; one with `partition: day` or `month` in its meta is a partition by date, projected from its
    name (or from `folder`, where the folders bear another) so that no partition is ever registered. The projection begins at LAKE_SINCE,
    because a query without a date asks S3 for each day of it. Prints the statements; runs them unless `dry_run`.

        dbt run-operation create_raw_tables --target athena [--args '{dry_run: true}'] #}
{% macro create_raw_tables(dry_run=false) %}
    {%- for source in graph.sources.values() if source.config.meta.location %}
        {%- do run_or_print('create database if not exists `' ~ source.schema ~ '`', dry_run) %}
        {%- do run_or_print(external_table(source) | trim, dry_run) %}
    {%- endfor %}
{% endmacro %}


{#- The DDL of one external table. Result: text, in Athena's Hive dialect. #}
{% macro external_table(source) %}
    {%- set columns, partitions = [], [] %}
    {%- set format = {'day': 'yyyy-MM-dd', 'month': 'yyyy-MM'} %}
    {%- set since = env_var('LAKE_SINCE', '2026-01-01') %}
    {%- set range = {'day': since ~ ',NOW+1DAYS', 'month': since[:7] ~ ',NOW'} %}
    {%- for column in source.columns.values() %}
        {%- do (partitions if column.config.meta.partition else columns).append(column) %}
    {%- endfor -%}
create external table if not exists `{{ source.schema }}`.`{{ source.identifier }}` (
    {%- for column in columns %}
    `{{ column.name }}` {{ hive_type(column.data_type) }}
    {{- ',' if not loop.last }}
    {%- endfor %}
)
    {%- if partitions %}
partitioned by ({% for column in partitions %}`{{ column.name }}` {{ hive_type(column.data_type) }}{% endfor %})
    {%- endif %}
stored as parquet
location '{{ source.config.meta.location }}/'
    {%- if partitions %}
tblproperties (
    'projection.enabled' = 'true'
    {%- for column in partitions %},
    'projection.{{ column.name }}.type' = 'date',
    'projection.{{ column.name }}.format' = '{{ format[column.config.meta.partition] }}',
    'projection.{{ column.name }}.range' = '{{ range[column.config.meta.partition] }}'
    {%- if column.config.meta.folder %},
    'storage.location.template' = '{{ source.config.meta.location }}/{{ column.config.meta.folder }}=${{ '{' ~ column.name ~ '}' }}/'
    {%- endif %}
    {%- endfor %}
)
    {%- endif %}
{% endmacro %}


{#- A source column's type in the Hive dialect. #}
{% macro hive_type(data_type) -%}
    {{ data_type | replace('map(varchar, varchar)', 'map<string,string>') | replace('varchar', 'string') | replace('integer', 'int') }}
{%- endmacro %}


{#- Redshift: an external schema over the Glue database of each layer or source that refined reads, named as ref() and
    source() resolve it. Prints the statements; runs them unless `dry_run`.

        dbt run-operation create_external_schemas --target redshift --args '{iam_role: arn:aws:iam::...}' #}
{% macro create_external_schemas(iam_role='default', dry_run=false) %}
    {%- for schema in [generate_schema_name('curated', none) | trim, 'vault'] %}
        {%- set role = 'default' if iam_role == 'default' else "'" ~ iam_role ~ "'" %}
        {%- set statement -%}
create external schema if not exists "{{ schema }}"
from data catalog
database '{{ schema }}'
iam_role {{ role }}
        {%- endset %}
        {%- do run_or_print(statement, dry_run) %}
    {%- endfor %}
{% endmacro %}


{#- Prints a statement and, unless `dry_run`, runs it. #}
{% macro run_or_print(statement, dry_run) %}
    {%- do print(statement ~ ';\n') %}
    {%- if not dry_run %}
        {%- do run_query(statement) %}
    {%- endif %}
{% endmacro %}
