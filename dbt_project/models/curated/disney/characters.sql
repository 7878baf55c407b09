{{ config(materialized='incremental', unique_key='character_id', on_schema_change='fail') }}

{%- set watermark = last_crawl(this) if is_incremental() else none %}

with records as (

    select * from {{ ref('stg_disney__characters') }}
    where {{ crawled_after(watermark) }}

),

{% if is_incremental() -%}
known as (

    select * from {{ this }}

),

{% endif -%}
crawls as (

    -- Each crawl with the next one. The last crawl of earlier runs takes part: what it saw may now be gone.
    select
        batch_id,
        crawled_at,
        lead(batch_id) over (order by batch_id) as next_batch_id,
        lead(crawled_at) over (order by batch_id) as next_crawled_at
    from (
        select
            batch_id,
            min(extracted_at) as crawled_at
        from records
        group by batch_id
        {%- if is_incremental() %}
        union all
        select
            max(last_batch_id) as batch_id,
            cast(null as timestamp) as crawled_at
        from known
        {%- endif %}
    ) as found

),

versions as (

    select
        character_id,
        batch_id,
        extracted_at as version_at,
        extracted_at as first_seen_at,
        name,
        image_url,
        source_url,
        unreadable_columns,
        record_hash
    from records
    {%- if is_incremental() %}
    union all
    select
        character_id,
        last_batch_id as batch_id,
        changed_at as version_at,
        first_seen_at,
        name,
        image_url,
        source_url,
        unreadable_columns,
        record_hash
    from known
    {%- endif %}

),

compared as (

    select
        *,
        lag(record_hash) over (partition by character_id order by batch_id) as previous_hash
    from versions

),

latest as (

    select
        character_id,
        {{ value_at_max('name', 'batch_id') }} as name,
        {{ value_at_max('image_url', 'batch_id') }} as image_url,
        {{ value_at_max('source_url', 'batch_id') }} as source_url,
        {{ value_at_max('unreadable_columns', 'batch_id') }} as unreadable_columns,
        min(first_seen_at) as first_seen_at,
        max(case when record_hash is distinct from previous_hash then version_at end) as changed_at,
        {{ value_at_max('record_hash', 'batch_id') }} as record_hash
    from compared
    group by character_id

),

seen as (

    select
        character_id,
        max(batch_id) as batch_id
    from (
        select
            character_id,
            batch_id
        from records
        {%- if is_incremental() %}
        union all
        select
            character_id,
            last_batch_id as batch_id
        from known
        where removed_at is null
        {%- endif %}
    ) as sightings
    group by character_id

)

select
    latest.character_id,
    latest.name,
    latest.image_url,
    latest.source_url,
    latest.unreadable_columns,
    latest.first_seen_at,
    latest.changed_at,
    crawls.next_crawled_at as removed_at,
    latest.record_hash,
    coalesce(crawls.next_batch_id, crawls.batch_id) as last_batch_id
from seen
inner join latest on seen.character_id = latest.character_id
inner join crawls on seen.batch_id = crawls.batch_id
