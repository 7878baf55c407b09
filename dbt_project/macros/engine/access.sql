{# Who may read what was built: Lake Formation's tags on Athena, grants on Redshift. DuckDB has no roles. #}


{#- Post-hook: give the relation that was just built its Lake Formation tags; nothing unless LAKE_FORMATION_TAGS is
    'true', and nothing on other engines. Developers' own tables get none: what has no tag, no grant by tags opens.

    The adapter would take the same from a model's `lf_tags_config`; but that is settled before the columns' yml is read. #}
{% macro tag_in_lake_formation() %}
    {{- return(adapter.dispatch('tag_in_lake_formation', 'lakehouse')()) }}
{% endmacro %}

{% macro athena__tag_in_lake_formation() %}
    {%- set wanted = env_var('LAKE_FORMATION_TAGS', 'false') %}
    {%- if wanted not in ('true', 'false') %}
        {{- exceptions.raise_compiler_error("LAKE_FORMATION_TAGS is '" ~ wanted ~ "': set it to true or false") }}
    {%- endif %}
    {%- if execute and wanted == 'true' and not target.name.endswith('_dev') %}
        {%- do adapter.add_lf_tags(this, lake_formation_tags(model)) %}
    {%- endif %}
{% endmacro %}

{% macro default__tag_in_lake_formation() %}{% endmacro %}


{#- The Lake Formation tags of a node: `layer`, and `pii`, which a column that holds personal data in the clear has of its
    own, its class by lineage (`column_privacy`), and every other column from the table: 'none' in refined, because the
    build proves it, and 'undeclared' below, where a column must be taken for personal.
    Result: dbt-athena's `lf_tags_config`. Quirk: `inherited_tags` keeps the adapter from taking a column's tag off before
    it puts it on again. In between, the column would be open; a tag that goes stale only closes. #}
{% macro lake_formation_tags(node) %}
    {%- set columns = {} %}
    {%- for name, column in column_privacy().get(node.name, {}).items() if not column.masked_by %}
        {%- do columns.setdefault(column['class'], []).append(name) %}
    {%- endfor %}
    {{- return({
        'enabled': true,
        'tags': {'layer': node.config.schema, 'pii': 'none' if node.config.schema == 'refined' else 'undeclared'},
        'tags_columns': {'pii': columns},
        'inherited_tags': ['layer', 'pii'],
    }) }}
{% endmacro %}


{#- Run-operation: the commands with which a Lake Formation administrator makes the tags that the project uses, lets dbt's
    role put them on, and lets the analysts' role read by them. Prints them; runs nothing.

        dbt run-operation print_lake_formation_setup [--args '{transformer: arn:aws:iam::..., analyst: arn:aws:iam::...}'] #}
{% macro print_lake_formation_setup(transformer='TRANSFORMER_ROLE_ARN', analyst='ANALYST_ROLE_ARN') %}
    {%- set values = {'layer': [], 'pii': []} %}
    {%- for node in graph.nodes.values() if node.resource_type in ('model', 'seed') %}
        {%- set tags = lake_formation_tags(node) %}
        {%- do values.layer.append(tags.tags.layer) %}
        {%- do values.pii.extend([tags.tags.pii] + tags.tags_columns.pii.keys() | list) %}
    {%- endfor %}
    {%- set grant = 'aws lakeformation grant-permissions --principal DataLakePrincipalIdentifier=' %}
    {%- for key in values %}
        {%- set used = values[key] | unique | sort | list %}
        {%- do print('aws lakeformation create-lf-tag --tag-key ' ~ key ~ ' --tag-values ' ~ used | join(' ')) %}
        {%- set tag = {'LFTag': {'TagKey': key, 'TagValues': used}} %}
        {%- do print(grant ~ transformer ~ " --permissions DESCRIBE ASSOCIATE --resource '" ~ tojson(tag) ~ "'") %}
    {%- endfor %}
    {%- set masked = {'LFTagPolicy': {'ResourceType': 'TABLE', 'Expression': [
        {'TagKey': 'layer', 'TagValues': ['refined']}, {'TagKey': 'pii', 'TagValues': ['none']}
    ]}} %}
    {%- do print(grant ~ analyst ~ " --permissions DESCRIBE SELECT --resource '" ~ tojson(masked) ~ "'") %}
{% endmacro %}


{#- Run-operation: let those whom models are granted to (REDSHIFT_READERS, REDSHIFT_FEATURE_READERS) into the models'
    schema, without which they find no table. Prints the statement; runs it unless `dry_run`. No default privileges: dbt grants each table anew.

        dbt run-operation grant_usage --target redshift [--args '{dry_run: true}'] #}
{% macro grant_usage(dry_run=false) %}
    {%- set readers = {} %}
    {%- for node in graph.nodes.values() if node.config.grants %}
        {%- do readers.update({node.schema: (readers.get(node.schema, []) + node.config.grants.select) | unique | list}) %}
    {%- endfor %}
    {%- for schema in readers %}
        {%- set names = redshift__format_grantees(readers[schema]) | join(', ') %}
        {%- do run_or_print('grant usage on schema "' ~ schema ~ '" to ' ~ names, dry_run) %}
    {%- else %}
        {%- do print('nobody is granted anything: set REDSHIFT_READERS and use the target redshift') %}
    {%- endfor %}
{% endmacro %}
