{# Readable masks. Null stays null; a value that a mask cannot read becomes '***', never a piece of itself. No mask shows all of a
   value, whatever its length or script: what it shows is shown only where something as telling is hidden. `python -m privacy`
   runs each mask over short, long and hostile values and holds it to that. #}


{#- The initials of the first and the last word: 'M. S.', or 'M.' where there is one word.
    Result: varchar. Words end at a space. A word shows its initial where that is a letter with upper and lower case and at least
    one more such letter is hidden; else it is '***': one letter, a name in a script without case ('李 明'), an invisible or
    combining character. Only case tells a letter from a mark alike on all engines. #}
{% macro mask_initials(name) -%}
    {%- set trimmed = trim_whitespace(readable(name)) -%}
    case
        when strpos({{ trimmed }}, ' ') = 0 then {{ initial(trimmed) }}
        when {{ name }} is not null
            then {{ initial('split_part(' ~ trimmed ~ ", ' ', 1)") }}
                || ' '
                || {{ initial(regexp_replace_all(trimmed, '^([^ ]* )+', '')) }}
    end
{%- endmacro %}


{#- 'M.': a word's first letter, where another letter is hidden; else '***'. For mask_initials.
    Result: varchar. #}
{% macro initial(word) -%}
    case
        when
            lower(substr({{ word }}, 1, 1)) <> upper(substr({{ word }}, 1, 1))
            and lower(substr({{ word }}, 2)) <> upper(substr({{ word }}, 2))
            then upper(substr({{ word }}, 1, 1)) || '.'
        else '***'
    end
{%- endmacro %}


{#- 'm***@example.com': the first character and the domain; '***@example.com' where the first is no ASCII letter or digit, or
    where no other one is hidden before the @.
    Result: varchar, lower case. Anything but one @ between a name with an ASCII letter or digit and an ASCII domain is '***',
    and so is more than the 254 characters that an address may have (RFC 5321). #}
{% macro mask_email(email) -%}
    {%- set normalised = 'lower(' ~ trim_whitespace(readable(email)) ~ ')' -%}
    case
        when {{ email }} is null then null
        when length({{ normalised }}) > 254 then '***'
        when not {{ regexp_matches(normalised, '^[^@]*[a-z0-9][^@]*@[a-z0-9.-]+$') }} then '***'
        when {{ regexp_matches(normalised, '^[a-z0-9][^@]*[a-z0-9][^@]*@') }}
            then substr({{ normalised }}, 1, 1) || '***@' || split_part({{ normalised }}, '@', 2)
        else '***@' || split_part({{ normalised }}, '@', 2)
    end
{%- endmacro %}


{#- '***.456.789-**': the six middle digits of a CPF, as public bodies print it.
    Result: varchar. Anything but eleven digits is '***'. #}
{% macro mask_cpf(cpf) -%}
    {%- set compact = without_punctuation(cpf) -%}
    case
        when {{ cpf }} is null then null
        when {{ regexp_matches(compact, '^[0-9]{11}$') }}
            then '***.' || substr({{ compact }}, 4, 3) || '.' || substr({{ compact }}, 7, 3) || '-**'
        else '***'
    end
{%- endmacro %}


{#- '***21': the last two digits of a phone number.
    Result: varchar. Anything but eight digits or more, with or without a + before them, is '***'. #}
{% macro mask_phone(phone) -%}
    {%- set compact = without_punctuation(phone) -%}
    case
        when {{ phone }} is null then null
        when {{ regexp_matches(compact, '^[+]?[0-9]{8,}$') }} then '***' || substr({{ compact }}, length({{ compact }}) - 1, 2)
        else '***'
    end
{%- endmacro %}


{#- '013**-***': the region of a Brazilian postal code (CEP).
    Result: varchar. Anything but eight digits is '***'. #}
{% macro mask_postal_code(postal_code) -%}
    {%- set compact = without_punctuation(postal_code) -%}
    case
        when {{ postal_code }} is null then null
        when {{ regexp_matches(compact, '^[0-9]{8}$') }} then substr({{ compact }}, 1, 3) || '**-***'
        else '***'
    end
{%- endmacro %}


{#- 'https://example.com/***': who serves a link, and nothing of what it leads to.
    Result: varchar, lower case. Anything but an http(s) address of a plain host with a path that has an ASCII letter or digit is
    '***': an address that is a host alone would be shown whole. So is a host of more than the 253 characters that one may
    have (RFC 1035). #}
{% macro mask_url(url) -%}
    {%- set normalised = 'lower(' ~ trim_whitespace(readable(url)) ~ ')' -%}
    case
        when {{ url }} is null then null
        when length(split_part({{ normalised }}, '/', 3)) > 253 then '***'
        when {{ regexp_matches(normalised, '^https?://[a-z0-9.-]+/[^a-z0-9]*[a-z0-9]') }}
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
