"""What one run landed as CloudWatch metrics, in the embedded metric format (EMF).

CloudWatch makes metrics of such a line when it stands alone in a log event (Amazon CloudWatch User Guide, "Embedded
metric format specification"), so neither an agent nor a call is needed where stdout goes to CloudWatch Logs as it is.
"""

import json
from datetime import datetime

from loaders.raw import Landed

NAMESPACE = "Lakehouse"
UNITS = {"rows": "Count", "bytes": "Bytes", "seconds": "Seconds", "slot_lag_bytes": "Bytes"}


def emf(landed: Landed, seconds: float, now: datetime) -> str:
    """One line of JSON: the run's metrics by table, at `now` (which knows its zone)."""
    values = {"rows": landed.rows, "bytes": landed.bytes, "seconds": seconds, "slot_lag_bytes": landed.slot_lag_bytes}
    known = {name: value for name, value in values.items() if value is not None}
    metadata = {
        "Timestamp": int(now.timestamp() * 1000),
        "CloudWatchMetrics": [
            {
                "Namespace": NAMESPACE,
                "Dimensions": [["table"]],
                "Metrics": [{"Name": name, "Unit": UNITS[name]} for name in known],
            }
        ],
    }
    return json.dumps({"_aws": metadata, "table": landed.table} | known)
