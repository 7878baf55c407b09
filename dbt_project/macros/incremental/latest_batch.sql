{#- The rows of the batch that landed last in `relation`, which has `batch_id` and `load_date`: what a test looks at in
    every build. Asked of yesterday and today; of all days only where nothing landed since, because to find the latest
    day an engine lists every day that an external table may have.
    Result: a condition as text, of literals; 'false' where the relation is empty. #}
{% macro latest_batch(relation) %}
    {%- if not may_query() %}{{ return('false') }}{% endif %}
    {%- set since = "load_date >= date '" ~ (run_started_at.date() - modules.datetime.timedelta(days=1)) ~ "'" %}
    {%- set batch_id = run_query("select max(batch_id) from " ~ relation ~ " where " ~ since).rows[0][0] %}
    {%- if batch_id is none %}
        {%- set since = "load_date >= date '" ~ landed_since(relation) ~ "'" %}
        {%- set batch_id = run_query("select max(batch_id) from " ~ relation ~ " where " ~ since).rows[0][0] %}
    {%- endif %}
    {%- if batch_id is none %}{{ return('false') }}{% endif %}
    {{- return(since ~ " and batch_id = '" ~ batch_id ~ "'") }}
{% endmacro %}
