with users as (
    select
        coalesce({{ short_text('state_code', 16) }}, 'unknown') as state_code,
        coalesce({{ age_band('birth_date', 'updated_at') }}, 'unknown') as age_band,
        coalesce({{ income_band('monthly_income') }}, 'unknown') as income_band
    from {{ ref('users') }}
    where not is_deleted
),

-- All that is read of people; the rest is arithmetic on a thousand rows.
counted as (
    select
        state_code,
        age_band,
        income_band,
        count(*) as people
    from users
    group by state_code, age_band, income_band
),

states as (
    {{- shown_states('counted') }}
),

in_states as (
    select
        states.shown_state as state_code,
        counted.age_band,
        counted.income_band,
        sum(counted.people) as people
    from counted
    inner join states on counted.state_code = states.state_code
    group by states.shown_state, counted.age_band, counted.income_band
),

by_age as (
    select
        state_code,
        age_band,
        sum(people) as people
    from in_states
    group by state_code, age_band
),

ages as (
    select
        state_code,
        age_band,
        case when {{ is_merged('people', 'age_band', whole='state_code') }} then 'other' else age_band end as shown_age_band
    from by_age
),

segments as (
    select
        in_states.state_code,
        ages.shown_age_band as age_band,
        in_states.income_band,
        sum(in_states.people) as users,
        count(*) over (partition by in_states.state_code, ages.shown_age_band) as income_bands
    from in_states
    inner join ages on in_states.state_code = ages.state_code and in_states.age_band = ages.age_band
    group by in_states.state_code, ages.shown_age_band, in_states.income_band
),

-- Where nearly all of a group earn alike, to know who belongs to it would be to know what he earns.
diverse as (
    select
        state_code,
        age_band,
        case when income_bands >= {{ var('l_diversity') }} then income_band end as income_band,
        users
    from segments
)

select
    state_code,
    age_band,
    income_band,
    cast(sum(users) as bigint) as users
from diverse
group by state_code, age_band, income_band
