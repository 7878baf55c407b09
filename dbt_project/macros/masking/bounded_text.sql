{# Text of a source has no length, a column of Redshift has one, in bytes, and a longer value stops the whole model there. So no
   text reaches refined but through these two or a mask, and means the same on every engine. #}


{#- What is read of a text: 4,096 characters. Redshift cuts a text of the lake at 16,384, and no value that we know how to
    mask or compare is longer than this.
    Result: varchar; null stays null. #}
{% macro readable(text) -%}
    substr({{ text }}, 1, 4096)
{%- endmacro %}


{#- A text as refined shows it: its first characters, without ASCII white space at its ends, because Redshift compares as if
    there were no blanks at the end.
    Result: varchar of at most four bytes a character; null stays null. #}
{% macro short_text(text, characters) -%}
    {{ trim_whitespace('substr(' ~ text ~ ', 1, ' ~ characters ~ ')') }}
{%- endmacro %}
