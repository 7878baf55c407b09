{%- set keys = ['id'] + user_attributes().values() | list %}

with changes as (
    select * from {{ source('customer', 'usuarios') }}
),

inspected as (
    select
        *,
        case when op = 'd' then before else after end as document,
        op in ('r', 'c', 'u') and coalesce({{ is_erased('after') }}, false) as is_erased,
        case when op in ('d', 'u') then {{ json_nests('before', ['id']) }} else false end as is_old_id_nested,
        case when op <> 'd' then {{ json_nests('after', keys) }} else false end as is_nested
    from changes
),

parsed as (
    select
        *,
        {{ json_object("case when op in ('d', 'u') and not is_old_id_nested then before end", texts=['id']) }} as old_row,
        {{ json_object("case when op <> 'd' then after end", texts=keys) }} as new_row,
        case when is_nested then {{ json_kind('after', '$.id') }} in ('object', 'array') end as is_new_id_nested,
        case
            when is_nested
                then concat(
                    ','
                    {%- for column, key in user_attributes().items() %},
                    case when {{ json_kind('after', '$.' ~ key) }} in ('object', 'array') then '{{ column }},' else '' end
                    {%- endfor %}
                )
            else ''
        end as nested_columns
    from inspected
),

texts as (
    select
        epoch,
        commit_lsn,
        change_seq,
        op,
        committed_at,
        before,
        after,
        batch_id,
        landed_at,
        load_date,
        document,
        is_erased,
        coalesce(is_old_id_nested or is_new_id_nested, false) as is_id_nested,
        nested_columns,
        {{ json_text('old_row', 'id') }} as old_id_text,
        {{ json_text('new_row', 'id') }} as new_id_text
        {%- for column, key in user_attributes().items() %},
        case when strpos(nested_columns, ',{{ column }},') = 0 then {{ json_text('new_row', key) }} end as {{ column }}_text
        {%- endfor %}
    from parsed
),

typed as (
    select
        *,
        {{ parse_bigint('old_id_text') }} as old_id,
        {{ parse_bigint('new_id_text') }} as new_id,

        ---------- text
        full_name_text as full_name,
        email_text as email,
        cpf_text as cpf,
        phone_text as phone,
        postal_code_text as postal_code,
        city_text as city,
        {{ trim_trailing_spaces('state_code_text') }} as state_code,
        {{ trim_trailing_spaces('status_text') }} as status,
        notes_text as notes,

        ---------- numerics
        {{ parse_decimal('monthly_income_text', 18, 2) }} as monthly_income,

        ---------- dates and timestamps
        {{ parse_date('birth_date_text') }} as birth_date,
        {{ parse_timestamp('created_at_text') }} as created_at,
        {{ parse_timestamp('updated_at_text') }} as updated_at
    from texts
)

select
    epoch,
    commit_lsn,
    change_seq,
    case when is_erased then 'e' else op end as op,
    {{ utc_timestamp('committed_at') }} as committed_at,
    case when op = 'd' then old_id else new_id end as user_id,
    case when op = 'u' and old_id <> new_id then old_id end as previous_user_id,
    full_name,
    email,
    cpf,
    phone,
    birth_date,
    postal_code,
    city,
    state_code,
    monthly_income,
    status,
    notes,
    created_at,
    updated_at,

    -- Which keys an update leaves out. Most keys are seen in the text; only where that fails is it parsed once more.
    case
        when op = 'u' and not is_erased then nullif(
            concat(
                ','
                {%- for column, key in user_attributes().items() %},
                case
                    when {{ column }} is null and strpos(after, '"{{ key }}":') = 0 and {{ json_kind('after', '$.' ~ key) }} is null
                        then '{{ column }},'
                    else ''
                end
                {%- endfor %}
            ),
            ','
        )
    end as unchanged_columns,

    -- What was sent and is no value of its column's type is null above.
    case
        when op in ('r', 'c', 'u') and not is_erased then nullif(
            concat(
                ','
                {%- for column in user_attributes() %},
                case
                    when strpos(nested_columns, ',{{ column }},') > 0 or ({{ column }} is null and {{ column }}_text is not null)
                        then '{{ column }},'
                    else ''
                end
                {%- endfor %}
            ),
            ','
        )
    end as unreadable_columns,

    -- Why the operation or a key cannot be read; never the value.
    case
        when op not in ('r', 'c', 'u', 'd', 't') then 'unknown op'
        when op = 't' then null
        when document is null then case when op = 'd' then 'no before' else 'no after' end
        when is_id_nested or (new_id is null and new_id_text is not null) or (old_id is null and old_id_text is not null)
            then 'id: not an integer'
        when op <> 'd' and new_id is null
            then case when coalesce({{ json_kind('after') }}, '') = 'object' then 'no id' else 'malformed JSON' end
        when (op = 'd' or (op = 'u' and before is not null)) and old_id is null
            then case when coalesce({{ json_kind('before') }}, '') = 'object' then 'no id' else 'malformed JSON' end
    end as rejection_reason,

    before,
    after,
    batch_id,
    {{ utc_timestamp('landed_at') }} as landed_at,
    load_date
from typed
