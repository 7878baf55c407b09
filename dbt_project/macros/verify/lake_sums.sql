{# What `python -m loaders verify` asks of curated.users: the live rows as they were at one LSN, as sums of hashes that the
   customer database computes too (loaders/verify/source.py). Nothing here holds a value. #}


{#- The columns that are compared, as the contract of users types them.
    Result: list of dicts: our `column`, the source's `key`, `type`, and whether staging trims the text's trailing spaces. #}
{% macro verified_columns() %}
    {%- set types = graph.nodes['model.lakehouse.users'].columns %}
    {%- set columns = [] %}
    {%- for column, key in user_attributes().items() %}
        {%- do columns.append({
            'column': column, 'key': key, 'type': types[column].data_type, 'is_trimmed': column in ['state_code', 'status']
        }) %}
    {%- endfor %}
    {{- return(columns) }}
{% endmacro %}


{#- The users that were alive just before an LSN, with the given columns as canonical text.
    A user whom something touched since then is read from the history of changes, everybody else from users.
    Result: a query; one row per user: `user_id`, and each column as text ('-' for null, else '=' and the value). #}
{% macro users_at(epoch, lsn, columns) %}
    {%- set is_before = "(epoch, commit_lsn) < (" ~ epoch ~ ", " ~ lsn ~ ")" %}
    {%- set types = graph.nodes['model.lakehouse.users'].columns %}
    select
        user_id
        {%- for column in columns %},
        coalesce('=' || {{ canonical_text(column, types[column].data_type) }}, '-') as {{ column }}
        {%- endfor %}
    from (
        select user_id{% for column in columns %}, {{ column }}{% endfor %}
        from {{ ref('users') }}
        where not is_deleted and {{ is_before }}

        union all

        select
            changes.user_id
            {%- for column in columns %},
            case when completed.user_id is null then changes.{{ column }} else completed.{{ column }} end as {{ column }}
            {%- endfor %}
        from {{ ref('user_changes') }} as changes
        inner join (
            select user_id, max((epoch, commit_lsn, change_seq)) as position
            from {{ ref('user_changes') }}
            where
                {{ is_before }}
                and user_id in (select user_id from {{ ref('users') }} where not {{ is_before }})
            group by user_id
        ) as latest
            on changes.user_id = latest.user_id
            and (changes.epoch, changes.commit_lsn, changes.change_seq) = latest.position
        left join {{ ref('completed_user_changes') }} as completed
            on changes.epoch = completed.epoch
            and changes.commit_lsn = completed.commit_lsn
            and changes.change_seq = completed.change_seq
            and changes.user_id = completed.user_id
        cross join (
            select max((epoch, commit_lsn, change_seq)) as position
            from {{ ref('user_changes') }}
            where user_id is null and {{ is_before }}
        ) as truncates
        where
            changes.op not in ('d', 'e')
            and (
                truncates.position is null
                or (changes.epoch, changes.commit_lsn, changes.change_seq) > truncates.position
            )
    ) as users
{% endmacro %}


{#- Query: for each bucket of keys how many rows it has and the sum of their hashes, whatever their order.
    Result: `bucket` (keys from bucket * width on), `users`, `total` (decimal text). #}
{% macro users_by_bucket(epoch, lsn, columns, width) %}
    select
        {{ key_bucket('user_id', width) }} as bucket,
        count(*) as users,
        cast(sum(cast({{ hash_number(columns | join(" || chr(31) || ")) }} as decimal(38, 0))) as varchar) as total
    from ({{ users_at(epoch, lsn, columns) }}) as users_at
    group by 1
{% endmacro %}


{#- Query: the rows of some buckets, a hash for each column in place of its value.
    Result: `user_id`, and each column as varchar (15 hex digits). #}
{% macro users_in_buckets(epoch, lsn, columns, width, buckets) %}
    select
        user_id
        {%- for column in columns %},
        {{ hash_text(column) }} as {{ column }}
        {%- endfor %}
    from ({{ users_at(epoch, lsn, columns) }}) as users_at
    where {{ key_bucket('user_id', width) }} in ({{ buckets | join(', ') }})
{% endmacro %}


{#- Query: what else decides whether a comparison at an LSN holds.
    Result: one row: `truncates` since the LSN. #}
{% macro truncates_since(epoch, lsn) %}
    select count(*) as truncates from {{ ref('user_changes') }}
    where user_id is null and (epoch, commit_lsn) >= ({{ epoch }}, {{ lsn }})
{% endmacro %}


{#- Query: people whose values were erased: the source may still have them, the lake must not.
    Result: `user_id`. #}
{% macro erased_users() %}
    select user_id from {{ ref('users') }}
    where op = 'e'
{% endmacro %}


{#- The bucket of a key; `width` is a power of two, so that every engine divides alike.
    Result: bigint. #}
{% macro key_bucket(key, width) -%}
    cast(floor(cast({{ key }} as double) / {{ width }}) as bigint)
{%- endmacro %}


{#- A value as the text that the customer database prints for it, once it has been read by staging.
    Result: varchar; null stays null. Raises a compiler error for a type that has no such text yet. #}
{% macro canonical_text(column, type) %}
    {%- if type == 'varchar' %}{{ return(column) }}
    {%- elif type == 'timestamp' %}{{ return(timestamp_text(column)) }}
    {%- elif type == 'date' or type.startswith('decimal') %}{{ return('cast(' ~ column ~ ' as varchar)') }}
    {%- endif %}
    {{- exceptions.raise_compiler_error("canonical_text: " ~ column ~ " is of type " ~ type ~ ", which has no canonical text") }}
{% endmacro %}
