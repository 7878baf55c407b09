-- depends_on: {{ ref('dim_users') }} {{ ref('dim_characters') }}
-- Whether this engine's form of HMAC-SHA-256 gives what Python's gives: RFC 4231's test case 2, whose key is no secret,
-- and a text with accents. The pads and the inner digest are bytes that are no UTF-8.
with jefe as (
    select
        'what do ya want for nothing?' as question,
        'Ação' as accents,
        '7c535053363636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363636' as inner_pad,
        '16393a395c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c5c' as outer_pad
),

digests as (
    select
        {{ hmac_sha256_text('question', 'inner_pad', 'outer_pad') }} as of_question,
        {{ hmac_sha256_text('accents', 'inner_pad', 'outer_pad') }} as of_accents
    from jefe
)

select * from digests
where
    of_question <> '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843'
    or of_accents <> '6c97b8ba4df7a7dc3b1a5fb81f95df5bc11e39ff995b340c2c5345019e420612'
