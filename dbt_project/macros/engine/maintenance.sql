{#- Run-operation: let every table that keeps snapshots merge its small files and forget the snapshots that nobody reads.

        dbt run-operation maintain_tables --target athena [--args '{forget: true}']

    With `forget` all snapshots but the current one go, also those of the last days: what was erased is then in no file.
    Quirk: Athena's Iceberg tables need both (OPTIMIZE, then VACUUM), and VACUUM keeps five days unless told otherwise;
    DuckDB and Redshift look after their own tables, but DuckDB's file is written anew by `python -m loaders erase`. #}
{% macro maintain_tables(forget=false) %}
    {{- return(adapter.dispatch('maintain_tables', 'lakehouse')(forget)) }}
{% endmacro %}

{% macro athena__maintain_tables(forget) %}
    {%- for node in graph.nodes.values() if node.config.materialized in ('table', 'incremental') %}
        {%- set relation = adapter.get_relation(node.database, node.schema, node.alias) %}
        {%- if relation is not none %}
            {%- do run_until_done('optimize ' ~ relation ~ ' rewrite data using bin_pack', 'optimize') %}
            {%- if forget %}
                {%- do replace_manifests(node, relation) %}
            {%- endif %}
            {#- Each time, so that a run that failed midway does not leave a table that forgets its last days. #}
            {%- do run_or_print(keep_snapshots(node, 1 if forget else 432000), false) %}
            {%- do run_until_done('vacuum ' ~ relation, 'vacuum') %}
            {%- if forget %}
                {%- do vacuum_until_one_snapshot_is_left(relation) %}
                {%- do run_or_print(keep_snapshots(node, 432000), false) %}
            {%- endif %}
        {%- endif %}
    {%- endfor %}
{% endmacro %}

{#- Prints an OPTIMIZE or VACUUM and runs it until Athena says that it is done: each run does a limited amount of work, and ends
    with the error ICEBERG_OPTIMIZE_MORE_RUNS_NEEDED or ICEBERG_VACUUM_MORE_RUNS_NEEDED where there is more to do. #}
{% macro run_until_done(statement, operation) %}
    {%- do print(statement ~ ';\n') %}
    {%- do adapter.run_operation_with_potential_multiple_runs(statement, operation) %}
{% endmacro %}

{#- Repeats VACUUM until the current snapshot is the only one, because it keeps what is younger than the second that
    keep_snapshots() allows. Result: nothing; raises a compiler error when ten more runs do not suffice. #}
{% macro vacuum_until_one_snapshot_is_left(relation) %}
    {%- set snapshots = 'select count(*) from "' ~ relation.schema ~ '"."' ~ relation.identifier ~ '$snapshots"' %}
    {%- for _ in range(10) %}
        {%- if run_query(snapshots).rows[0][0] | int <= 1 %}{{ return('') }}{% endif %}
        {%- do run_until_done('vacuum ' ~ relation, 'vacuum') %}
    {%- endfor %}
    {{- exceptions.raise_compiler_error(relation ~ " still has former snapshots: run maintain_tables with forget again") }}
{% endmacro %}

{#- Commits a change that changes no value, of one row, to a table that is kept (others are made again by each build). OPTIMIZE
    leaves a manifest of the files that it has replaced, with the least and greatest value of each column; it belongs to the
    current snapshot, so VACUUM keeps it. The next commit leaves it out. #}
{% macro replace_manifests(node, relation) %}
    {%- set key = [node.config.unique_key] if node.config.unique_key is string else node.config.unique_key %}
    {%- if node.config.materialized != 'incremental' %}{{ return('') }}{% endif %}
    {%- if run_query('select 1 as found from ' ~ relation ~ ' limit 1').rows | length %}
        {%- set statement -%}
            update {{ relation }} set {{ key[0] }} = {{ key[0] }}
            where ({{ key | join(', ') }}) in (
                select {{ key | join(', ') }} from {{ relation }}
                where {{ key | join(' is not null and ') }} is not null
                limit 1
            )
        {%- endset %}
        {%- do run_or_print(statement, false) %}
    {%- else %}
        {%- do run_or_print('insert into ' ~ relation ~ ' (' ~ key[0] ~ ') select max(' ~ key[0] ~ ') from ' ~ relation, false) %}
        {%- do run_or_print('delete from ' ~ relation ~ ' where ' ~ key[0] ~ ' is null', false) %}
    {%- endif %}
{% endmacro %}

{#- For how many seconds VACUUM keeps snapshots; Athena's default is five days. Result: the statement, in DDL's names. #}
{% macro keep_snapshots(node, seconds) -%}
    alter table `{{ node.schema }}`.`{{ node.alias }}` set tblproperties ('vacuum_max_snapshot_age_seconds' = '{{ seconds }}')
{%- endmacro %}

{% macro default__maintain_tables(forget) %}
    {%- do print('nothing to maintain: ' ~ target.type ~ ' looks after its tables itself') %}
{% endmacro %}
