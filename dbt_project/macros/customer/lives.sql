{#- Which life of a key a row belongs to, by position: a row that arrives from another key begins a life of it, and one that
    leaves for another ends it. Nothing is carried forward between the lives of a key, but along with the row that moves.
    Result: bigint, from 0; a window function over all that arrives at the key or leaves it. #}
{% macro life(is_arriving, is_leaving) -%}
    count(case when {{ is_arriving }} then 1 end) over (
            partition by user_id order by epoch, commit_lsn, change_seq
            rows between unbounded preceding and current row
        )
        + count(case when {{ is_leaving }} then 1 end) over (
            partition by user_id order by epoch, commit_lsn, change_seq
            rows between unbounded preceding and 1 preceding
        )
{%- endmacro %}
