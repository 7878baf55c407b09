{#- Overrides dbt-athena's macro of this name (1.11.1; no issue is known of it): the table type of what is built.
    dbt-athena learns the types of a unit test's columns from an empty table, which it makes of type hive whatever the model is, and
    Hive keeps no microseconds: `create table` fails for each column of them. Result: 'iceberg' or 'hive'. #}
{% macro resolve_table_type() %}
    {{- return('iceberg' if model.resource_type == 'unit_test' else config.get('table_type', default='hive') | lower) }}
{% endmacro %}
