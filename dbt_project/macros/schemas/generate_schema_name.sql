{# A schema is a layer: staging, curated, refined. Developers' own targets (their names end in _dev) put the
   target's schema before it, so that nobody's trial runs write into the tables that others read. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set layer = (custom_schema_name or target.schema) | trim -%}
    {{ target.schema ~ '_' ~ layer if target.name.endswith('_dev') and custom_schema_name else layer }}
{%- endmacro %}
