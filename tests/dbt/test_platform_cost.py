"""The platform's cost, from what AWS delivers to the mart: real Parquet in the folders of a billing period."""

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loaders import raw
from loaders.alerts import Alert
from loaders.watch import alerts_of_dbt, alerts_of_freshness
from sandbox import cost_export
from tests.dbt.lakes import Dbt
from tests.dbt.test_alerts import document

BUILD = ("build", "--select", "tag:daily", "--exclude-resource-type", "unit_test")
TODAY = date(2026, 11, 12)

Query = Callable[..., list[tuple]]


def deliver(lake: Path, chunk: int, *items: dict[str, Any], schema: pa.Schema = raw.COST_AND_USAGE) -> None:
    """A chunk of October with so many line items, of which only what matters is said."""
    plain = {
        "bill_billing_period_start_date": datetime(2026, 10, 1),
        "line_item_usage_start_date": datetime(2026, 10, 5),
        "line_item_product_code": "AmazonS3",
        "line_item_line_item_type": "Usage",
        "line_item_currency_code": "USD",
        "line_item_unblended_cost": 1.0,
    }
    path = lake / raw.COST_AND_USAGE_FOLDER / "BILLING_PERIOD=2026-10" / f"cost_and_usage-{chunk:05d}.snappy.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([plain | item for item in items], schema), path)


def test_a_lake_without_any_export_builds(dbt: Dbt, query: Query) -> None:
    dbt(*BUILD)
    assert query("select count(*) from refined.mart_platform_cost") == [(0,)]


def test_a_month_that_aws_restates_is_replaced(dbt: Dbt, lake: Path, query: Query) -> None:
    def cost_of(day: date, service: str) -> Decimal:
        return query(
            "select sum(cost) from refined.mart_platform_cost where usage_date = ? and service = ?", day, service
        )[0][0]

    def in_files() -> Decimal:
        files = lake.glob(f"{raw.COST_AND_USAGE_FOLDER}/*/*.parquet")
        costs = [pq.read_table(path, partitioning=None)["line_item_unblended_cost"].to_pylist() for path in files]
        return sum((Decimal(str(cost)) for file in costs for cost in file), Decimal(0))

    total = "select sum(cost) from refined.mart_platform_cost"
    cost_export.deliver(lake, TODAY, ended=False)
    dbt(*BUILD)
    before = {day: cost_of(date(2026, 10, day), "AmazonAthena") for day in (3, 4)}
    warehouse = cost_of(date(2026, 10, 3), "AmazonRedshift")
    days = "select min(usage_date), max(usage_date) from refined.mart_platform_cost"
    assert query(days) == [(date(2026, 10, 1), date(2026, 11, 11))]
    assert query("select sum(credits), sum(taxes) from refined.mart_platform_cost") == [(0, 0)]
    assert query(total) == [(in_files(),)]

    cost_export.deliver(lake, TODAY, ended=True)
    dbt(*BUILD)
    assert cost_of(date(2026, 10, 3), "AmazonAthena") == before[3]
    assert cost_of(date(2026, 10, 4), "AmazonAthena") == before[4] * Decimal("1.5")
    assert cost_of(date(2026, 10, 3), "AmazonRedshift") == warehouse - 3
    assert query("select sum(credits), sum(taxes) > 0 from refined.mart_platform_cost") == [(-28, True)]
    assert query(total) == [(in_files(),)]


def test_chunks_add_up_and_one_that_is_no_longer_needed_counts_for_nothing(dbt: Dbt, lake: Path, query: Query) -> None:
    total = "select sum(cost) from refined.mart_platform_cost"
    deliver(lake, 1, {}, {})
    deliver(lake, 2, {})
    dbt(*BUILD)
    assert query(total) == [(3,)]
    deliver(lake, 1, {"line_item_unblended_cost": 2.5})
    deliver(lake, 2)
    dbt(*BUILD)
    assert query(total) == [(Decimal("2.5"),)]


def test_instants_may_know_their_zone(dbt: Dbt, lake: Path, query: Query) -> None:
    """What Data Exports writes in Parquet, with or without UTC, no document says."""
    place = raw.COST_AND_USAGE.get_field_index("line_item_usage_start_date")
    field = pa.field("line_item_usage_start_date", pa.timestamp("us", tz="UTC"))
    deliver(lake, 1, {}, schema=raw.COST_AND_USAGE.set(place, field))
    dbt(*BUILD)
    assert query("select usage_date from refined.mart_platform_cost") == [(date(2026, 10, 5),)]


def test_what_cannot_be_used_is_set_aside_counted_and_told(dbt: Dbt, documents: Path, lake: Path, query: Query) -> None:
    no_amount = {"line_item_usage_amount": float("inf")}
    deliver(lake, 1, no_amount, {"line_item_unblended_cost": float("nan")}, {"line_item_currency_code": None})
    dbt(*BUILD)
    assert query("select sum(cost) from refined.mart_platform_cost") == [(1,)]
    assert query("select usage_amount, unreadable_columns from curated.cost_line_items") == [(None, ",usage_amount,")]
    reasons = query("select reason from staging.stg_aws__rejected_cost_and_usage order by reason")
    assert reasons == [("no cost that is a number",), ("no currency",)]
    alerts = alerts_of_dbt(document(documents, "run_results", "run-results/v6"))
    assert sorted(alerts, key=lambda alert: alert.subject) == [
        Alert("rows_rejected", "test.lakehouse.rejected_cost_and_usage", {"status": "warn", "failures": 2}),
        Alert("values_unreadable", "test.lakehouse.unreadable_cost_columns", {"status": "warn", "failures": 1}),
    ]


@pytest.mark.parametrize(("delivered", "status"), [(False, "warn"), (True, None)])
def test_a_report_that_does_not_come_is_told_and_fails_nothing(
    delivered: bool, status: str | None, dbt: Dbt, documents: Path, lake: Path
) -> None:
    if delivered:
        cost_export.deliver(lake, datetime.now().date(), ended=False)
    dbt("source", "freshness", "--select", "tag:daily")
    alerts = alerts_of_freshness(document(documents, "sources", "sources/v3"))
    assert [alert.facts["status"] for alert in alerts] == ([status] if status else [])


def test_the_daily_models_alone_are_left_out_every_five_minutes(dbt: Dbt) -> None:
    def names(*arguments: str) -> set[str]:
        return set(dbt("ls", "--exclude-resource-type", "unit_test", *arguments))

    daily = names("--select", "tag:daily", "--indirect-selection", "eager")
    for layer in ("lake", "warehouse"):
        indirect = ("--indirect-selection", "buildable")
        everything = names("--selector", layer, *indirect)
        often = names("--selector", f"{layer}_every_five_minutes", *indirect)
        assert everything - often == everything & daily != set()
