{#- No two rows have the same values in these columns. A failure shows how many rows are too many, never the values. #}
{% test unique_together(model, columns) %}

select sum(surplus.rows_too_many) as rows_too_many
from (
    select count(*) - 1 as rows_too_many
    from {{ model }}
    group by {{ columns | join(', ') }}
    having count(*) > 1
) as surplus
having sum(surplus.rows_too_many) > 0

{% endtest %}
