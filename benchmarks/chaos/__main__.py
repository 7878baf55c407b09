"""`python -m benchmarks.chaos`: kill, crash and promote at random; print what it left, and exit with 1 on a fault."""

if __name__ == "__main__":  # before what takes time to import
    import loaders.interruptible  # noqa: F401 (ends this program in one line when it is interrupted)

import argparse
import json
import logging
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks import chaos


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=chaos.__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="of the loader (%(default)s)")
    parser.add_argument("--crashes", type=int, default=12, help="of both servers (%(default)s)")
    parser.add_argument("--promotions", type=int, default=12, help="of the standby (%(default)s)")
    parser.add_argument("--dbt-kills", type=int, default=8, help="builds that are killed, or end before (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="%(default)s")
    parser.add_argument(
        "--no-wait",
        dest="waits_for_standby",
        action="store_false",
        help="the primary sends changes that its standby may not have: promotions then leave gaps",
    )
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        counts = chaos.run(Path(folder), **vars(options))
    print(json.dumps(asdict(counts)))
    return 1 if counts.faults else 0


if __name__ == "__main__":
    sys.exit(main())
