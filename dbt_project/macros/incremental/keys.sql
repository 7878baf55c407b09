{# An incremental table of pseudonyms has those of one key: after `python -m loaders key --rotate` its next run makes all
   rows anew, in one transaction where the engine has such (Athena: two snapshots, of which the first is empty). #}


{#- The key that a model's rows were made with, where the vault still has it: then the run may go on from them.
    Result: a key_id, or none where all rows have to be made: a full refresh, an empty table, another key. '' where nothing
    may be asked, so that what is compiled goes on. #}
{% macro key_in_use(built) %}
    {%- if not is_incremental() %}{{ return(none) }}{% endif %}
    {%- if not may_query() %}{{ return('') }}{% endif %}
    {%- set found -%}
        select min(key_id) as least, max(key_id) as greatest from {{ built }}
        union all
        select key_id, key_id from {{ source('vault', 'masking_key') }}
    {%- endset %}
    {%- set keys = run_query(found).rows | map('list') | sum(start=[]) | unique | list %}
    {{- return(keys[0] if keys | length == 1 else none) }}
{% endmacro %}


{#- Pre-hook of such a model: rows of any key but the vault's go. Nothing to do in the first run and a full refresh. #}
{% macro delete_other_keys() %}
    {%- if is_incremental() and may_query() and key_in_use(this) is none -%}
        delete from {{ this }} where key_id not in (select key_id from {{ source('vault', 'masking_key') }})
    {%- endif -%}
{% endmacro %}


{#- For a model that joins by pseudonyms: stops it, before anything is written, where its tables do not have those of one
    key, as after a rotation in the midst of a run. #}
{% macro require_one_key(relations) %}
    {%- if may_query() %}
        {%- set found %}
        {%- for relation in relations %}
        select min(key_id) as least, max(key_id) as greatest from {{ relation }}{{ ' union all' if not loop.last }}
        {%- endfor %}
        {%- endset %}
        {%- set keys = run_query(found).rows | map('list') | sum(start=[]) | reject('none') | unique | sort %}
        {%- if keys | length > 1 %}
            {%- do exceptions.raise_compiler_error(
                "pseudonyms of the keys " ~ keys | join(' and ') ~ " would be joined, of " ~ relations | join(' and ')
                ~ ". Nothing was written: build those again first, `dbt build --full-refresh --select "
                ~ relations | map(attribute='identifier') | join(' ') ~ " " ~ this.identifier ~ "`"
            ) %}
        {%- endif %}
    {%- endif %}
{% endmacro %}
