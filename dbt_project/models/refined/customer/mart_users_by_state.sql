{#- Below this many users an average would tell what one of them earns. -#}
{%- set least_users = 10 %}

with users as (
    select * from {{ ref('users') }}
    where not is_deleted
),

states as (
    select * from {{ ref('brazilian_states') }}
),

counted as (
    select
        coalesce(state_code, 'unknown') as state_code,
        count(*) as users,
        count(case when status = 'ativo' then 1 end) as active_users,
        count(case when status = 'inativo' then 1 end) as inactive_users,
        count(case when status = 'pendente' then 1 end) as pending_users,
        count(case when status = 'bloqueado' then 1 end) as blocked_users,
        case when count(monthly_income) >= {{ least_users }} then avg(monthly_income) end as average_income
    from users
    group by coalesce(state_code, 'unknown')
)

select
    counted.state_code,
    states.state_name,
    states.region,
    counted.users,
    counted.active_users,
    counted.inactive_users,
    counted.pending_users,
    counted.blocked_users,
    cast(counted.average_income as decimal(18, 2)) as average_income
from counted
left join states on counted.state_code = states.state_code
