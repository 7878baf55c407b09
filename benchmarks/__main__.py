"""`python -m benchmarks`: measure, print the figures beside their alternatives and targets, and write them down."""

if __name__ == "__main__":  # before what takes time to import
    import loaders.interruptible  # noqa: F401 (ends this program in one line when it is interrupted)

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks import airflow, cycle, disney, engines, erasure, report, source, users, verify
from benchmarks.world import ROOT

BENCHMARKS = {
    "users": users.run,
    "source": source.run,
    "disney": disney.run,
    "cycle": cycle.run,
    "erasure": erasure.run,
    "verify": verify.run,
    "airflow": airflow.run,
    "engines": engines.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition(": ")[2])
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help="this benchmark; may be repeated")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows in seconds that all works, no figures")
    parser.add_argument("--output", type=Path, help="Markdown file to write to (default: docs/benchmarks.md)")
    parser.add_argument(
        "--work", type=Path, help="where the data live until the run ends (default: the system's temporary folder)"
    )
    options = parser.parse_args()
    if options.quick and not options.output:
        parser.error("--quick needs --output: its figures mean nothing in docs/benchmarks.md")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    for name in options.only or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix=f"benchmark-{name}-", dir=options.work) as work:
            section = BENCHMARKS[name](Path(work), quick=options.quick)
        report.show(section, Console())
        report.write(options.output or ROOT / "docs/benchmarks.md", name, section)


if __name__ == "__main__":
    main()
