{# Crawls of the Disney API. A batch_id begins with its UTC time ('20260131T120000.000000Z'), so it sorts in landing
   order and names its own load_date partition. #}


{#- The last crawl that a relation knows of, read at run time to stand in the query as a literal.
    Result: a batch_id, or none where the relation does not exist yet or is empty. #}
{% macro last_crawl(relation, column='last_batch_id') %}
    {%- if may_query() and load_relation(relation) is not none %}
        {{- return(run_query('select max(' ~ column ~ ') from ' ~ relation).columns[0].values()[0]) }}
    {%- endif %}
    {{- return(none) }}
{% endmacro %}


{#- The condition for rows of crawls after the given one, or of all crawls where it is none. #}
{% macro crawled_after(batch_id) -%}
    {%- if batch_id is none -%} true
    {%- else -%} load_date >= {{ crawl_date(batch_id) }} and batch_id > '{{ batch_id }}'
    {%- endif -%}
{%- endmacro %}


{#- The condition for rows of one crawl, or of all crawls where it is none. #}
{% macro crawled_in(batch_id) -%}
    {%- if batch_id is none -%} true
    {%- else -%} load_date = {{ crawl_date(batch_id) }} and batch_id = '{{ batch_id }}'
    {%- endif -%}
{%- endmacro %}


{#- The load_date of a crawl, as a date literal. #}
{% macro crawl_date(batch_id) -%}
    date '{{ batch_id[:4] }}-{{ batch_id[4:6] }}-{{ batch_id[6:8] }}'
{%- endmacro %}
