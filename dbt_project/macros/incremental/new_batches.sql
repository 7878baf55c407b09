{#- Which rows of `relation` may be new to the model that is being built: those of the batches that the model has no
    row of, among what landed since the day before its own latest load_date. Both sides have `batch_id` and `load_date`.

    A batch is asked for by its name, not by a position or a time past the greatest one built, because a batch may land
    late with lower positions. No batch lands under a day that is older: the loaders' batch times never go back
    (loaders/batches.py), and a stream's events arrive within a day. What comes back is a range of names, as literals (they
    sort by landing time, so an engine prunes files by them): usually just the new batch, and otherwise more than the new
    ones, so a model must bear to see a row again.

    Result: a condition as text; 'true' in a full refresh, 'false' when there is nothing new.
    `--vars 'reload_from: 2026-01-31'` goes further back, for files that a person has put under an older day. #}
{% macro new_batches(relation) %}
    {%- if not is_incremental() %}{{ return('true') }}{% endif %}
    {%- set since = "load_date >= date '" ~ landed_since(this) ~ "'" %}
    {%- set batches -%}
        select
            min(batch_id) as first_batch_id,
            max(batch_id) as last_batch_id
        from {{ relation }}
        where {{ since }} and batch_id not in (select batch_id from {{ this }} where {{ since }})
    {%- endset %}
    {%- set found = run_query(batches).rows[0] if may_query() else [none, none] %}
    {%- if found[0] is none %}{{ return('false') }}{% endif %}
    {{- return(since ~ " and batch_id between '" ~ found[0] ~ "' and '" ~ found[1] ~ "'") }}
{% endmacro %}


{#- The day from which raw is searched for batches that `built` lacks: the day before its latest load_date, or before
    today where a clock once ran ahead.
    Result: text, YYYY-MM-DD; the first day of all where `built` is empty. #}
{% macro landed_since(built) %}
    {%- set first_day = modules.datetime.date(1970, 1, 1) %}
    {%- if var('reload_from', none) %}{{ return(var('reload_from')) }}{% endif %}
    {%- set latest = run_query("select max(load_date) from " ~ built).rows[0][0] if may_query() else none %}
    {%- if latest is none %}{{ return(first_day.isoformat()) }}{% endif %}
    {%- set day = [latest, run_started_at.date()] | min - modules.datetime.timedelta(days=1) %}
    {{- return([day, first_day] | max | string) }}
{% endmacro %}
