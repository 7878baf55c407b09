from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from loaders import raw
from sandbox import cost_export

TODAY = date(2026, 11, 12)


def delivered(lake: Path) -> dict[str, list[dict]]:
    files = sorted(lake.glob(f"{raw.COST_AND_USAGE_FOLDER}/*/*"))
    return {"/".join(path.parts[-2:]): pq.read_table(path, partitioning=None).to_pylist() for path in files}


def test_columns_are_those_that_the_export_asks_for():
    assert cost_export.SCHEMA.equals(raw.COST_AND_USAGE)


def test_two_billing_periods_are_delivered_the_same_each_time_and_in_place(tmp_path: Path):
    cost_export.deliver(tmp_path, TODAY, ended=False)
    first = delivered(tmp_path)
    assert list(first) == [f"BILLING_PERIOD=2026-{month}/cost_and_usage-00001.snappy.parquet" for month in ("10", "11")]
    days = {name: {item["line_item_usage_start_date"].day for item in items} for name, items in first.items()}
    assert list(days.values()) == [set(range(1, 32)), set(range(1, 12))]
    cost_export.deliver(tmp_path, TODAY, ended=False)
    assert delivered(tmp_path) == first


def test_a_month_that_has_ended_is_restated_and_the_current_one_is_not(tmp_path: Path):
    cost_export.deliver(tmp_path, TODAY, ended=False)
    october, november = delivered(tmp_path).values()
    assert {item["line_item_line_item_type"] for item in october} == {"Usage"}
    cost_export.deliver(tmp_path, TODAY, ended=True)
    restated, unchanged = delivered(tmp_path).values()
    assert unchanged == november
    assert {item["line_item_line_item_type"] for item in restated} == {"Usage", "Refund", "Credit", "Tax"}
    changed = [after for before, after in zip(october, restated, strict=False) if before != after]
    assert {(item["line_item_product_code"], item["line_item_usage_start_date"].day) for item in changed} == {
        ("AmazonAthena", 4)
    }


def test_on_the_first_of_a_month_the_current_one_is_empty(tmp_path: Path):
    cost_export.deliver(tmp_path, date(2026, 1, 1), ended=False)
    december, january = delivered(tmp_path).values()
    assert december
    assert not january
