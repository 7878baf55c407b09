{#- Below this many users an average would tell what one of them earns. -#}
{%- set least_users = 10 %}
{%- set statuses = {'ativo': 'active', 'inativo': 'inactive', 'pendente': 'pending', 'bloqueado': 'blocked'} %}

with users as (
    select
        coalesce({{ short_text('state_code', 16) }}, 'unknown') as state_code,
        case
            {%- for status in statuses %}
            when {{ short_text('status', 64) }} = '{{ status }}' then '{{ status }}'
            {%- endfor %}
            else 'another'
        end as status,
        monthly_income
    from {{ ref('users') }}
    where not is_deleted
),

brazilian_states as (
    select * from {{ ref('brazilian_states') }}
),

counted as (
    select
        state_code,
        status,
        count(*) as people,
        count(monthly_income) as known_incomes,
        sum(monthly_income) as income
    from users
    group by state_code, status
),

states as (
    {{- shown_states('counted') }}
),

in_states as (
    select
        states.shown_state as state_code,
        counted.status,
        sum(counted.people) as people,
        sum(counted.known_incomes) as known_incomes,
        sum(counted.income) as income
    from counted
    inner join states on counted.state_code = states.state_code
    group by states.shown_state, counted.status
),

by_status as (
    select
        *,
        {{ is_merged('people', 'status', whole='state_code') }} as is_withheld
    from in_states
),

by_state as (
    select
        state_code,
        sum(people) as users,
        {%- for status, name in statuses.items() %}
        sum(case when status = '{{ status }}' then people else 0 end) as {{ name }}_users,
        max(case when status = '{{ status }}' and is_withheld then 1 else 0 end) as {{ name }}_withheld,
        {%- endfor %}
        case when sum(known_incomes) >= {{ least_users }} then sum(income) / sum(known_incomes) end as average_income
    from by_status
    group by state_code
)

select
    by_state.state_code,
    brazilian_states.state_name,
    brazilian_states.region,
    cast(by_state.users as bigint) as users,
    {%- for name in statuses.values() %}
    cast(case when by_state.{{ name }}_withheld = 0 then by_state.{{ name }}_users end as bigint) as {{ name }}_users,
    {%- endfor %}
    cast(by_state.average_income as decimal(18, 2)) as average_income
from by_state
left join brazilian_states on by_state.state_code = brazilian_states.state_code
