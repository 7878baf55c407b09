{%- set keys = ['id'] + user_attributes().values() | list %}

with changes as (
    select * from {{ source('customer', 'usuarios') }}
),

inspected as (
    select
        *,
        case when op = 'd' then before else after end as document,
        op in ('r', 'c', 'u') and coalesce({{ is_erased('after') }}, false) as is_erased,
        {{ json_nests('before', ['id']) }} or {{ json_nests('after', keys) }} as is_nested
    from changes
),

parsed as (
    select
        *,
        {{ json_object("case when op in ('d', 'u') and not is_nested then before end", texts=['id']) }} as old_row,
        {{ json_object("case when op <> 'd' and not is_nested then after end", texts=keys) }} as new_row
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
        is_nested,

        ---------- ids
        {{ json_text('old_row', 'id') }} as old_id_text,
        {{ json_text('new_row', 'id') }} as new_id_text,

        ---------- text
        {{ json_text('new_row', 'nome') }} as full_name,
        {{ json_text('new_row', 'email') }} as email,
        {{ json_text('new_row', 'cpf') }} as cpf,
        {{ json_text('new_row', 'telefone') }} as phone,
        {{ json_text('new_row', 'cep') }} as postal_code,
        {{ json_text('new_row', 'cidade') }} as city,
        {{ trim_trailing_spaces(json_text('new_row', 'uf')) }} as state_code,
        {{ trim_trailing_spaces(json_text('new_row', 'status')) }} as status,
        {{ json_text('new_row', 'observacoes') }} as notes,

        ---------- numerics
        {{ json_text('new_row', 'renda_mensal') }} as monthly_income_text,

        ---------- dates and timestamps
        {{ json_text('new_row', 'data_nascimento') }} as birth_date_text,
        {{ json_text('new_row', 'criado_em') }} as created_at_text,
        {{ json_text('new_row', 'atualizado_em') }} as updated_at_text
    from parsed
),

typed as (
    select
        *,
        try_cast(old_id_text as bigint) as old_id,
        try_cast(new_id_text as bigint) as new_id,
        {{ parse_decimal('monthly_income_text', 18, 2) }} as monthly_income,
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

    -- names what is wrong and where, never the value
    case
        when op not in ('r', 'c', 'u', 'd', 't') then 'unknown op'
        when op = 't' then null
        when document is null then case when op = 'd' then 'no before' else 'no after' end
        when is_nested then 'an object or array where a text is expected'
        when coalesce(old_id_text, new_id_text) is null and coalesce({{ json_kind('document') }}, '') <> 'object'
            then 'malformed JSON'
        when op = 'u' and before is not null and old_id_text is null and coalesce({{ json_kind('before') }}, '') <> 'object'
            then 'malformed JSON'
        when (case when op = 'd' then old_id_text else new_id_text end) is null then 'no id'
        -- engines cast '1.5' or '1e3' to an integer too; PostgreSQL never prints one so
        when coalesce(cast(new_id as varchar), '') <> coalesce(new_id_text, '') then 'id: not an integer'
        when coalesce(cast(old_id as varchar), '') <> coalesce(old_id_text, '') then 'id: not an integer'
        when birth_date is null and birth_date_text is not null then 'data_nascimento: not a date'
        when monthly_income is null and monthly_income_text is not null then 'renda_mensal: not a decimal(18, 2)'
        when created_at is null and created_at_text is not null then 'criado_em: not a timestamp'
        when updated_at is null and updated_at_text is not null then 'atualizado_em: not a timestamp'
    end as rejection_reason,

    before,
    after,
    batch_id,
    {{ utc_timestamp('landed_at') }} as landed_at,
    load_date
from typed
