{#- Post-hook of incomplete_moves: leads each move back along its chain (1 -> 2 -> 3) to the life in which the row began.
    Each pass joins the table with itself and doubles the distance, so that 6 passes follow 64 moves, and there are as many
    passes as the longest chain needs. A recursive query would be one statement, but Athena ends it after ten steps.
    Result: nothing; it runs its own statements. Raises a compiler error where 30 passes (a thousand million moves) reach no end. #}
{% macro follow_moves() %}
    {%- if not may_query() %}{{ return('') }}{% endif %}
    {%- set unfinished -%}
        select 1 as found from {{ this }} as moves
        inner join {{ this }} as earlier
            on moves.first_user_id = earlier.user_id
            and moves.first_life = earlier.life
        limit 1
    {%- endset %}
    {%- set double -%}
        merge into {{ this }} as moves
        using (select user_id, life, first_user_id, first_life from {{ this }}) as earlier
            on moves.first_user_id = earlier.user_id and moves.first_life = earlier.life
        when matched then update set first_user_id = earlier.first_user_id, first_life = earlier.first_life
    {%- endset %}
    {%- for _ in range(30) %}
        {%- if run_query(unfinished).rows | length == 0 %}{{ return('') }}{% endif %}
        {%- do run_query(double) %}
    {%- endfor %}
    {{- exceptions.raise_compiler_error("incomplete_moves: a chain of key changes has no end after 30 passes. Nothing was completed") }}
{% endmacro %}
