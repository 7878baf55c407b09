"""A stand-in of AWS's Data Exports: the Cost and Usage Report 2.0 of an account that runs the stacks of infra/.

As the Data Exports User Guide has it: `<export>/data/BILLING_PERIOD=YYYY-MM/<export>-00001.snappy.parquet`, a folder
for each billing period, whose files are overwritten. A month that has ended is delivered again in the two weeks
after it: here with its tax, a credit and a refund, and with a day corrected.

Amounts are made up and the same in each delivery; the account is AWS's own example, 123456789012.
"""

import argparse
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from loaders import settings

EXPORT = "cost_and_usage"
ACCOUNT, REGION = "123456789012", "sa-east-1"
PROJECT = "lakehouse-dev"
TEXT, NUMBER, INSTANT = pa.string(), pa.float64(), pa.timestamp("ms")
SCHEMA = pa.schema(
    {
        "bill_billing_period_start_date": INSTANT,
        "identity_line_item_id": TEXT,
        "line_item_usage_start_date": INSTANT,
        "line_item_usage_account_id": TEXT,
        "line_item_product_code": TEXT,
        "line_item_usage_type": TEXT,
        "line_item_operation": TEXT,
        "line_item_line_item_type": TEXT,
        "line_item_resource_id": TEXT,
        "line_item_usage_amount": NUMBER,
        "pricing_unit": TEXT,
        "line_item_currency_code": TEXT,
        "line_item_unblended_cost": NUMBER,
        "resource_tags": pa.map_(TEXT, TEXT),
    }
)


class Usage(NamedTuple):
    """What one resource uses each day, in `unit`, at a made-up `rate` in US dollars."""

    service: str
    usage_type: str
    operation: str
    resource: str | None
    amount: float
    unit: str
    rate: float
    tagged: bool = True


def bucket(name: str) -> str:
    return f"{PROJECT}-{name}-{ACCOUNT}-{REGION}"


def arn(service: str, resource: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


def stored(name: str, gigabytes: float, requests: int) -> list[Usage]:
    return [
        Usage("AmazonS3", "TimedStorage-ByteHrs", "StandardStorage", bucket(name), gigabytes / 30, "GB-Mo", 0.04),
        Usage("AmazonS3", "Requests-Tier1", "PutObject", bucket(name), requests, "Requests", 7e-6),
    ]


def scanned(work_group: str, terabytes: float) -> Usage:
    resource = arn("athena", f"workgroup/{PROJECT}-{work_group}")
    return Usage("AmazonAthena", "DataScannedInTB", "DML", resource, terabytes, "Terabytes", 9.0)


WAREHOUSE, AIRFLOW = arn("redshift-serverless", "workgroup/0b1c2d3e"), arn("airflow", f"environment/{PROJECT}")
GATEWAY, KEY = arn("ec2", "natgateway/nat-0a1b2c3d"), arn("kms", "key/1a2b3c4d")
SECRET = arn("secretsmanager", "secret:lakehouse/dev/customer-dsn")
BUSY = ("Requests", "Terabytes", "RPU-Hr")  # some days more than on others
DAILY = [
    *stored("raw", 40, 3_000),
    *stored("curated", 60, 9_000),
    *stored("refined", 5, 300),
    *stored("vault", 0.01, 10),
    *stored("athena-results", 2, 4_000),
    *stored("logs", 9, 2_000),
    scanned("dbt", 0.08),
    scanned("analysts", 0.01),
    Usage("AmazonRedshift", "Redshift:ServerlessUsage", "Serverless", WAREHOUSE, 12, "RPU-Hr", 0.5),
    Usage("AmazonMWAA", "Airflow-SmallEnvironment", "Environment", AIRFLOW, 24, "Hours", 0.6),
    Usage("AmazonEC2", "NatGateway-Hours", "NatGateway", GATEWAY, 24, "Hrs", 0.09),
    Usage("awskms", "KMS-Keys", "Unknown", KEY, 2 / 30, "Keys", 1.0),
    Usage("AWSSecretsManager", "AWSSecretsManager-Secrets", "Secrets", SECRET, 3 / 30, "Secrets", 0.4),
    Usage("AmazonCloudWatch", "CW:AlarmMonitorUsage", "Unknown", None, 14 / 30, "Alarms", 0.1, tagged=False),
]


def line_items(month: date, today: date, *, ended: bool) -> list[dict[str, Any]]:
    """A billing period's line items up to the day before `today`. `ended`: with what AWS adds after the month's end.

    That is a refund of the warehouse's 3rd, half as much again scanned by Athena on the 4th, a credit and the tax.
    """
    following = (month + timedelta(days=32)).replace(day=1)
    days = [month + timedelta(days=n) for n in range((min(following, today) - month).days)]
    found: list[dict[str, Any]] = []

    def add(day: date, kind: str, usage: Usage, amount: float | None, cost: float) -> None:
        found.append(
            {
                "bill_billing_period_start_date": datetime.combine(month, time()),
                "identity_line_item_id": f"{month:%Y%m}-{len(found):06d}",
                "line_item_usage_start_date": datetime.combine(day, time()),
                "line_item_usage_account_id": ACCOUNT,
                "line_item_product_code": usage.service,
                "line_item_usage_type": usage.usage_type,
                "line_item_operation": usage.operation,
                "line_item_line_item_type": kind,
                "line_item_resource_id": usage.resource,
                "line_item_usage_amount": amount,
                "pricing_unit": usage.unit if kind == "Usage" else None,
                "line_item_currency_code": "USD",
                "line_item_unblended_cost": round(cost, 10),
                "resource_tags": [("user_project", PROJECT)] if usage.tagged and kind == "Usage" else [],
            }
        )

    for day in days:
        for usage in DAILY:
            corrected = ended and day.day == 4 and usage.service == "AmazonAthena"
            busy = 1 + day.toordinal() % 7 / 10 if usage.unit in BUSY else 1
            amount = usage.amount * busy * (1.5 if corrected else 1)
            add(day, "Usage", usage, amount, amount * usage.rate)
    if ended:
        charged = {usage.service: usage for usage in DAILY}
        spent = sum(item["line_item_unblended_cost"] for item in found)
        add(month.replace(day=3), "Refund", charged["AmazonRedshift"], None, -3.0)
        add(month, "Credit", charged["AmazonMWAA"]._replace(resource=None), None, -25.0)
        add(month, "Tax", charged["AmazonMWAA"]._replace(resource=None), None, spent * 0.1)
    return found


def deliver(lake: Path, today: date, *, ended: bool) -> list[Path]:
    """Deliver last month, with what follows its end if it has `ended`, and this month; the files that were written."""
    this_month = today.replace(day=1)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    written = []
    for month, restated in ((last_month, ended), (this_month, False)):
        folder = lake / f"raw/aws/{EXPORT}/data/BILLING_PERIOD={month:%Y-%m}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{EXPORT}-00001.snappy.parquet"
        draft = path.with_suffix(".draft")  # so that no reader sees half of it
        pq.write_table(pa.Table.from_pylist(line_items(month, today, ended=restated), SCHEMA), draft)
        draft.replace(path)
        written.append(path)
    return written


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "cost-export",
        help="deliver a made-up Cost and Usage Report of two billing periods into LAKE_URI, as AWS would",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--today", type=date.fromisoformat, default=datetime.now(UTC).date(), metavar="YYYY-MM-DD")
    parser.add_argument("--ended", action="store_true", help="last month with tax, credit, refund and corrected days")
    parser.set_defaults(run=run)


def _lake() -> Path:
    uri = settings.from_environment().lake_uri
    if "://" in uri:
        raise SystemExit(f"LAKE_URI is {uri}: a made-up report is delivered to a folder only")
    return Path(uri)


def run(options: argparse.Namespace) -> None:
    for path in deliver(_lake(), options.today, ended=options.ended):
        print(path)
