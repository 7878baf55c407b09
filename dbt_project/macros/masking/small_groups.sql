{# What refined shows of groups of people: each has at least `k_anonymity` of them (dbt_project.yml), and so has what is left
   when all that is shown is subtracted from a total. Who is alone in his group is shown in a larger one. #}


{#- Whether a group of people is merged with others of the same whole, as an expression over the whole's groups.
    Groups with too few people are, and where these together are still too few, the next smallest group is too.
    So the merged ones together are none or enough, as long as the whole is enough.
    Result: boolean. `name` must not be null. #}
{% macro is_merged(people, name, whole=none) -%}
    {%- set k = var('k_anonymity') -%}
    (
        {{ people }} < {{ k }}
        or sum({{ people }}) over (
            {{ 'partition by ' ~ whole if whole }} order by {{ people }}, {{ name }}
            rows between unbounded preceding and 1 preceding
        ) between 1 and {{ k }} - 1
    )
{%- endmacro %}


{#- A select of the states that a relation's people live in, each with the one that it is shown as: small ones are `other`.
    `counted` has `state_code`, never null, and `people`. Fewer people than `k_anonymity` in all give no row: then nothing
    can be shown. The marts share it, so that none of them tells what another one merged. #}
{% macro shown_states(counted) %}
    select
        state_code,
        case when {{ is_merged('people', 'state_code') }} then 'other' else state_code end as shown_state
    from (
        select
            state_code,
            sum(people) as people,
            sum(sum(people)) over () as everybody
        from {{ counted }}
        group by state_code
    ) as by_state
    where everybody >= {{ var('k_anonymity') }}
{%- endmacro %}
