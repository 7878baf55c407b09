{# Readable masks. Null stays null; a value that a mask cannot read becomes '***', never a piece of itself. #}


{#- The initials of the first and the last word: 'M. S.', or 'M.' where there is one word.
    Result: varchar. Words end at a space; an empty name is '***'. #}
{% macro mask_initials(name) -%}
    {%- set trimmed = trim_whitespace(readable(name)) -%}
    case
        when {{ trimmed }} = '' then '***'
        when strpos({{ trimmed }}, ' ') = 0 then upper(substr({{ trimmed }}, 1, 1)) || '.'
        else upper(
            substr({{ trimmed }}, 1, 1) || '. '
            || substr({{ trimmed }}, length({{ trimmed }}) - strpos(reverse({{ trimmed }}), ' ') + 2, 1) || '.'
        )
    end
{%- endmacro %}


{#- 'm***@example.com': the first character, unless it is all there is before the @, and the domain.
    Result: varchar, lower case. Anything but one @ between a name and an ASCII domain is '***', and so is more than the 254
    characters that an address may have (RFC 5321). #}
{% macro mask_email(email) -%}
    {%- set normalised = 'lower(' ~ trim_whitespace(readable(email)) ~ ')' -%}
    case
        when {{ email }} is null then null
        when length({{ normalised }}) > 254 then '***'
        when not {{ regexp_matches(normalised, '^[^@]+@[a-z0-9.-]+$') }} then '***'
        when strpos({{ normalised }}, '@') = 2 then '***@' || split_part({{ normalised }}, '@', 2)
        else substr({{ normalised }}, 1, 1) || '***@' || split_part({{ normalised }}, '@', 2)
    end
{%- endmacro %}


{#- '***.456.789-**': the six middle digits of a CPF, as public bodies print it.
    Result: varchar. Anything but eleven digits is '***'. #}
{% macro mask_cpf(cpf) -%}
    {%- set digits = regexp_replace_all(readable(cpf), '[^0-9]', '') -%}
    case
        when {{ cpf }} is null then null
        when length({{ digits }}) = 11
            then '***.' || substr({{ digits }}, 4, 3) || '.' || substr({{ digits }}, 7, 3) || '-**'
        else '***'
    end
{%- endmacro %}


{#- '***21': the last two digits of a phone number.
    Result: varchar. Fewer than eight digits are '***'. #}
{% macro mask_phone(phone) -%}
    {%- set digits = regexp_replace_all(readable(phone), '[^0-9]', '') -%}
    case
        when {{ phone }} is null then null
        when length({{ digits }}) >= 8 then '***' || substr({{ digits }}, length({{ digits }}) - 1, 2)
        else '***'
    end
{%- endmacro %}


{#- '013**-***': the region of a Brazilian postal code (CEP).
    Result: varchar. Anything but eight digits is '***'. #}
{% macro mask_postal_code(postal_code) -%}
    {%- set digits = regexp_replace_all(readable(postal_code), '[^0-9]', '') -%}
    case
        when {{ postal_code }} is null then null
        when length({{ digits }}) = 8 then substr({{ digits }}, 1, 3) || '**-***'
        else '***'
    end
{%- endmacro %}


{#- 'https://example.com/***': who serves a link, and nothing of what it leads to.
    Result: varchar, lower case. Anything but an http(s) address of a plain host is '***', and so is a host of more than the
    253 characters that one may have (RFC 1035). #}
{% macro mask_url(url) -%}
    {%- set normalised = 'lower(' ~ trim_whitespace(readable(url)) ~ ')' -%}
    case
        when {{ url }} is null then null
        when length(split_part({{ normalised }}, '/', 3)) > 253 then '***'
        when {{ regexp_matches(normalised, '^https?://[a-z0-9.-]+(/|$)') }}
            then split_part({{ normalised }}, '/', 1) || '//' || split_part({{ normalised }}, '/', 3) || '/***'
        else '***'
    end
{%- endmacro %}


{#- The year of birth.
    Result: integer; null stays null. #}
{% macro birth_year(birth_date) -%}
    cast(extract(year from {{ birth_date }}) as integer)
{%- endmacro %}


{#- The age in completed years on a day, as a band: '0-17', '18-24', '25-34', ... '65+'.
    Result: varchar; null where either date is null or the birth lies after the day. #}
{% macro age_band(birth_date, on_date) -%}
    {%- set age -%}
        (
            extract(year from {{ on_date }}) - extract(year from {{ birth_date }})
            - case
                when
                    extract(month from {{ on_date }}) * 100 + extract(day from {{ on_date }})
                    < extract(month from {{ birth_date }}) * 100 + extract(day from {{ birth_date }})
                    then 1
                else 0
            end
        )
    {%- endset -%}
    case
        when {{ age }} < 0 then null
        {%- for above, band in [(18, '0-17'), (25, '18-24'), (35, '25-34'), (45, '35-44'), (55, '45-54'), (65, '55-64')] %}
        when {{ age }} < {{ above }} then '{{ band }}'
        {%- endfor %}
        when {{ age }} >= 65 then '65+'
    end
{%- endmacro %}


{#- The monthly income in reais as a band: '0-1999', '2000-4999', '5000-9999', '10000-19999', '20000+'.
    Result: varchar; null stays null. #}
{% macro income_band(monthly_income) -%}
    case
        {%- for below, band in [(2000, '0-1999'), (5000, '2000-4999'), (10000, '5000-9999'), (20000, '10000-19999')] %}
        when {{ monthly_income }} < {{ below }} then '{{ band }}'
        {%- endfor %}
        when {{ monthly_income }} >= 20000 then '20000+'
    end
{%- endmacro %}
