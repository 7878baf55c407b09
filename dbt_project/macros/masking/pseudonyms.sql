{#- A person's or record's stable stand-in: HMAC-SHA-256 of the value's UTF-8 bytes under the vault's key.
    `key` is the alias under which the model joins source('vault', 'masking_key'), a table of one row; the key itself
    never stands in SQL. Normalise the value first, or the same person gets two pseudonyms.
    Result: varchar(64), lower-case hex; null stays null, '' has a pseudonym of its own. Bytes count: 'é' composed (NFC)
    and decomposed (NFD) have different pseudonyms. #}
{% macro pseudonym(value, key='masking_key') -%}
    {{ hmac_sha256_text(value, key ~ '.inner_pad', key ~ '.outer_pad') }}
{%- endmacro %}


{#- An e-mail address as it is compared: no ASCII white space around it, lower case.
    Result: varchar; null stays null; nothing left becomes null. #}
{% macro normalise_email(email) -%}
    nullif(lower({{ trim_whitespace(readable(email)) }}), '')
{%- endmacro %}


{#- The digits of a CPF, phone number or postal code.
    Result: varchar of 0-9; null stays null; no digit at all becomes null. #}
{% macro normalise_digits(text) -%}
    nullif({{ regexp_replace_all(readable(text), '[^0-9]', '') }}, '')
{%- endmacro %}
