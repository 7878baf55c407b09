{%- set lists = {'allies': 'ally', 'enemies': 'enemy'} -%}

with records as (

    select * from {{ ref('base_disney__characters') }}
    where rejection_reason is null

),

relations as (

    {% for column, relation in lists.items() -%}
    select
        records.batch_id,
        records.character_id,
        '{{ relation }}' as relation,
        {{ trim_whitespace('listed.name') }} as related_name,
        listed.position,
        records.load_date,
        records.extracted_at
    from records
    cross join unnest(records.{{ column }}) with ordinality as listed (name, position)
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
)

select
    ---------- ids
    batch_id,
    character_id,

    ---------- text
    relation,
    related_name,

    ---------- numerics
    position,

    ---------- dates and timestamps
    load_date,
    extracted_at
from relations
where related_name <> ''
