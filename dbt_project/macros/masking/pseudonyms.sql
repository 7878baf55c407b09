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


{#- A number as people write it, as it is compared: punctuation and spaces are left out, ASCII letters become upper case and
    full-width digits ASCII ones. All else stays, so that two numbers become one only where these tell them apart.
    Result: varchar; null stays null, nothing left is ''. #}
{% macro without_punctuation(text) -%}
    {%- set letters = 'abcdefghijklmnopqrstuvwxyz' -%}
    {#- Full-width forms; then punctuation and spaces of ASCII, of Unicode, and what is invisible or turns the direction of text. -#}
    {%- set digits = '\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19' -%}
    {%- set ascii = ' .,;:/_()-' -%}
    {%- set unicode = '\u00a0\u00ad\u00b7\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u3000\ufe63\uff08\uff09\uff0d\uff0e\uff0f'
        ~ '\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f'
        ~ '\u061c\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff' -%}
    translate(
        {{ readable(text) }},
        '{{ letters ~ digits ~ ascii ~ unicode }}' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13),
        '{{ letters | upper }}0123456789'
    )
{%- endmacro %}


{#- A taxpayer number as it is compared, a CPF or a CNPJ: punctuation and spaces go, letters are upper case (since July 2026 a
    CNPJ may have letters, and those are A to Z), zeros in front stay.
    Result: varchar; null stays null; what has no digit becomes null. #}
{% macro normalise_tax_number(text) -%}
    case when {{ regexp_matches(without_punctuation(text), '[0-9]') }} then {{ without_punctuation(text) }} end
{%- endmacro %}


{#- A phone number as it is compared. A Brazilian number is its area code (two digits, none of them 0) and eight or nine digits:
    +55 or 55 before it goes, and so does the 0 that is dialled before an area code. Every other number stays as it is,
    with its +: a number of another country, one without an area code, 0800, a carrier's code, an extension.
    Result: varchar; null stays null; what has no digit becomes null. #}
{% macro normalise_phone(text) -%}
    {%- set compact = without_punctuation(text) -%}
    case
        when {{ regexp_matches(compact, '^[+]?550?[1-9][1-9][0-9]{8,9}$') }}
            then {{ regexp_replace_all(compact, '^[+]?550?', '') }}
        when {{ regexp_matches(compact, '^0[1-9][1-9][0-9]{8,9}$') }} then substr({{ compact }}, 2)
        when {{ regexp_matches(compact, '[0-9]') }} then {{ compact }}
    end
{%- endmacro %}
