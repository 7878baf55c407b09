{{ config(severity='warn', fail_calc='coalesce(sum(unreadable), 0)') }}

-- Amounts of the two latest billing periods, which AWS may still rewrite, that are no number: they are null, and their costs
-- count all the same.
with periods as (
    select distinct billing_month from {{ ref('stg_aws__cost_and_usage') }}
    order by billing_month desc
    limit 2
)

select
    unreadable_columns,
    count(*) as unreadable
from {{ ref('stg_aws__cost_and_usage') }}
where billing_month in (select billing_month from periods) and unreadable_columns is not null
group by unreadable_columns
