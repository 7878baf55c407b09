{{ config(severity='warn', fail_calc='coalesce(sum(records), 0)') }}

-- Records of the latest crawl that could not be used, by reason: stg_disney__rejected_characters holds them.
select
    reason,
    count(*) as records
from {{ ref('stg_disney__rejected_characters') }}
where {{ latest_batch(source('disney', 'characters')) }}
group by reason
