{#- Run-operation: let every table that keeps snapshots merge its small files and forget the snapshots that nobody reads.

        dbt run-operation maintain_tables --target athena

    Quirk: Athena's Iceberg tables need both (OPTIMIZE, then VACUUM); DuckDB and Redshift look after their own tables. #}
{% macro maintain_tables() %}
    {{- return(adapter.dispatch('maintain_tables', 'lakehouse')()) }}
{% endmacro %}

{% macro athena__maintain_tables() %}
    {%- for node in graph.nodes.values() if node.config.materialized in ('table', 'incremental') %}
        {%- set relation = adapter.get_relation(node.database, node.schema, node.alias) %}
        {%- if relation is not none %}
            {%- do run_or_print('optimize ' ~ relation ~ ' rewrite data using bin_pack', false) %}
            {%- do run_or_print('vacuum ' ~ relation, false) %}
        {%- endif %}
    {%- endfor %}
{% endmacro %}

{% macro default__maintain_tables() %}
    {%- do print('nothing to maintain: ' ~ target.type ~ ' looks after its tables itself') %}
{% endmacro %}
