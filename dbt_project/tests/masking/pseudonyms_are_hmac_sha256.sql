-- depends_on: {{ ref('dim_users') }} {{ ref('dim_characters') }}
-- Whether this engine's form of HMAC-SHA-256 gives what Python's gives: RFC 4231's test case 2, whose key is no secret, a
-- text with accents, an empty one and none. The pads and the inner digest are bytes that are no UTF-8.
-- It reads a table that is there, so that Redshift's compute nodes answer as they do for the models, and types its texts, which
-- have none there.
{%- set is_there = not may_query() or load_relation(ref('dim_users')) is not none %}
{%- set table_that_is_built = ref('dim_users') if is_there else ref('dim_characters') %}
{%- set pads = {'inner_pad': '7c535053' ~ '36' * 60, 'outer_pad': '16393a39' ~ '5c' * 60} %}

with jefe as (
    select
        cast('what do ya want for nothing?' as varchar(64)) as question,
        cast('Ação' as varchar(64)) as accents,
        cast('' as varchar(64)) as nothing,
        cast(null as varchar(64)) as missing,
        {%- for pad, bytes in pads.items() %}
        cast('{{ bytes }}' as varchar(128)) as {{ pad }}{{ ',' if not loop.last }}
        {%- endfor %}
    from (select count(*) as found from {{ table_that_is_built }}) as asked
),

digests as (
    select
        {{ hmac_sha256_text('question', 'inner_pad', 'outer_pad') }} as of_question,
        {{ hmac_sha256_text('accents', 'inner_pad', 'outer_pad') }} as of_accents,
        {{ hmac_sha256_text('nothing', 'inner_pad', 'outer_pad') }} as of_nothing,
        {{ hmac_sha256_text('missing', 'inner_pad', 'outer_pad') }} as of_missing
    from jefe
)

select * from digests
where
    coalesce(of_question, '') <> '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843'
    or coalesce(of_accents, '') <> '6c97b8ba4df7a7dc3b1a5fb81f95df5bc11e39ff995b340c2c5345019e420612'
    or coalesce(of_nothing, '') <> '923598ca6d64af2a5dba79dcd021a8a0fe5c5f557519adaaf0ad532d4506dd30'
    or of_missing is not null
