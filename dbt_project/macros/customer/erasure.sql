{# Who was erased (`python -m loaders erase`). Raw then holds his events without values, and says so last in an event that
   is new to every table. What was appended before is not read again, so it is taken out where it stands. #}


{#- Whether a document of raw is one of which only the key was left.
    Result: boolean; null where the document is null. No text of a source begins so: the loader begins with the key. #}
{% macro is_erased(document) -%}
    {{ document }} like '{"erased":true%'
{%- endmacro %}


{#- Hook before user_changes appends: each row of people who are erased by what is new becomes what a full refresh would
    make of it. It also becomes one that has just landed, by a batch of its own, so that later models see a change.
    Result: an update; nothing where nobody is erased, which is asked by two columns of what is new. #}
{% macro forget_user_changes() %}
    {%- if not is_incremental() %}{{ return('') }}{% endif %}
    {%- set is_new = new_batches(source('customer', 'usuarios')) %}
    {%- set any_erased = "select 1 as found from " ~ source('customer', 'usuarios') ~ " where " ~ is_new ~ " and " ~ is_erased('after') %}
    {%- if any_row(any_erased) == 'false' %}{{ return('') }}{% endif %}
    {%- set erased -%}
        select
            user_id,
            max(batch_id) as batch_id,
            max(landed_at) as landed_at,
            max(load_date) as load_date
        from {{ ref('stg_customer__user_changes') }}
        -- an event that moves a row names somebody else too
        where {{ is_new }} and op = 'e' and previous_user_id is null
        group by user_id
    {%- endset %}
    {%- set newest = run_query("select max(batch_id), max(landed_at), max(load_date) from (" ~ erased ~ ") as erased").rows[0] %}
    {%- if newest[0] is none %}{{ return('') }}{% endif %}
    update {{ this }} set
        op = 'e',
        {%- for column in user_attributes() %}
        {{ column }} = null,
        {%- endfor %}
        unchanged_columns = null,
        unreadable_columns = null,
        batch_id = '{{ newest[0] }}+erased',
        landed_at = timestamp '{{ newest[1] }}',
        load_date = date '{{ newest[2] }}'
    where
        op in ('r', 'c', 'u')
        and (
            user_id in (select user_id from ({{ erased }}) as erased)
            or previous_user_id in (select user_id from ({{ erased }}) as erased)
        )
{% endmacro %}


{#- Hook before completed_user_changes merges: an erased change is not one to complete. Result: a delete. #}
{% macro forget_completed_user_changes() %}
    {%- if not is_incremental() %}{{ return('') }}{% endif %}
    {%- set recent_erased -%}
        select epoch, commit_lsn, change_seq, user_id from {{ ref('user_changes') }}
        where op = 'e' and load_date >= date '{{ landed_since(this) }}'
    {%- endset %}
    {%- if any_row(recent_erased) == 'false' %}{{ return('') }}{% endif %}
    delete from {{ this }} where (epoch, commit_lsn, change_seq, user_id) in ({{ recent_erased }})
{% endmacro %}


{#- Hook before fct_user_changes merges: windows in which changes were erased are counted anew, and a kind of change may
    be gone from one. Result: a delete. #}
{% macro forget_counted_changes() %}
    {%- if not is_incremental() %}{{ return('') }}{% endif %}
    {%- set windows -%}
        select {{ five_minutes('committed_at') }} from {{ ref('user_changes') }}
        where {{ new_batches(ref('user_changes')) }} and op = 'e'
    {%- endset %}
    {%- if any_row(windows) == 'false' %}{{ return('') }}{% endif %}
    delete from {{ this }} where window_start in ({{ windows }})
{% endmacro %}
