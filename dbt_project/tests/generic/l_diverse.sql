{#- To know somebody's group is not to know the sensitive value: people with the same quasi-identifiers have at least l
    different ones. Null is a value like any other, but where a group has nothing else, the value is withheld from all of it
    and nobody learns anything. A failure shows how many groups are too uniform, never which. #}
{% test l_diverse(model, quasi_identifiers, sensitive, l=3) %}
{%- if not quasi_identifiers %}
    {{- exceptions.raise_compiler_error('l_diverse needs quasi_identifiers: the columns by which people are told apart') }}
{%- endif %}
{%- set values = 'count(distinct ' ~ sensitive ~ ') + max(case when ' ~ sensitive ~ ' is null then 1 else 0 end)' %}

select
    count(*) as uniform_groups,
    min(found.sensitive_values) as least_values
from (
    select {{ values }} as sensitive_values
    from {{ model }}
    group by {{ quasi_identifiers | join(', ') }}
    having count({{ sensitive }}) > 0 and {{ values }} < {{ l }}
) as found
having count(*) > 0

{% endtest %}
