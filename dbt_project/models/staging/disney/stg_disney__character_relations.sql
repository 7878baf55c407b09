with records as (

    select * from {{ ref('base_disney__characters') }}
    where rejection_reason is null

),

listed as (

    select
        records.batch_id,
        records.character_id,
        records.load_date,
        records.extracted_at,
        kinds.relation,
        case kinds.relation
            when 'ally' then records.allies
            when 'enemy' then records.enemies
        end as names
    from records
    cross join (values ('ally'), ('enemy')) as kinds (relation)

),

relations as (

    {{ exploded('listed', array='names', value='name', position='position') }}

)

select
    ---------- ids
    batch_id,
    character_id,

    ---------- text
    relation,
    {{ trim_whitespace('name') }} as related_name,

    ---------- numerics
    position,

    ---------- dates and timestamps
    load_date,
    extracted_at
from relations
where {{ trim_whitespace('name') }} <> ''
