{{ config(severity='warn') }}

-- Gaps of the last days, between which nobody knows what happened: stg_customer__gaps says why.
select epoch, reason from {{ ref('stg_customer__gaps') }}
where load_date >= date '{{ landed_since(ref('user_changes')) }}'
