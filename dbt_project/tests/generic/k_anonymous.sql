{#- Nobody stands out: each combination of the quasi-identifiers that the model shows is that of at least k people. Null is a
    value like any other. A row is one person, or as many as its column `people` says. A failure shows how many groups are
    too small and how many people the smallest has, never which. #}
{% test k_anonymous(model, quasi_identifiers, k=5, people=none) %}
{%- if not quasi_identifiers %}
    {{- exceptions.raise_compiler_error('k_anonymous needs quasi_identifiers: the columns by which people are told apart') }}
{%- endif %}
{%- set size = 'coalesce(sum(' ~ people ~ '), 0)' if people else 'count(*)' %}

select
    count(*) as small_groups,
    min(found.people) as smallest_group
from (
    select {{ size }} as people
    from {{ model }}
    group by {{ quasi_identifiers | join(', ') }}
    having {{ size }} < {{ k }}
) as found
having count(*) > 0

{% endtest %}
