"""The command line: `python -m loaders COMMAND` does one piece of work and exits; `--help` lists the commands.

Exit code 0: done, also when there was nothing to do. 1: the source or the lake failed, a retry may help.
2: wrong settings or a state that needs a person. The last line on stdout says in JSON what was done; logs go to stderr.
"""

if __name__ == "__main__":  # before what takes time to import
    import loaders.interruptible  # noqa: F401 (ends this program in one line when it is interrupted)

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path

from loaders import alerts, compaction, disney, erasure, key, metrics, retention, settings, success, users, verify
from loaders.erasure import Erasure
from loaders.errors import LoaderError
from loaders.raw import Landed
from loaders.verify import Verified

log = logging.getLogger("loaders")


def build_parser() -> argparse.ArgumentParser:
    """The parser; each command's function takes the settings and its options."""
    parser = argparse.ArgumentParser(prog="python -m loaders", description=__doc__.partition("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("disney", help="land one complete snapshot of the Disney API's characters")
    command.set_defaults(run=lambda options, config: disney.land(config))

    command = commands.add_parser("users", help="land the changes of the customer table since the last run")
    command.add_argument(
        "--resnapshot",
        action="store_true",
        help="begin a new epoch: a new slot and the whole table; what vanished becomes a tombstone",
    )
    command.set_defaults(run=lambda options, config: users.land(config, resnapshot=options.resnapshot))

    command = commands.add_parser("key", help="write the masking key's table to the vault")
    command.add_argument(
        "--rotate",
        action="store_true",
        help="put the given key in the place of the vault's; the next dbt build makes all pseudonyms anew with it",
    )
    command.set_defaults(run=lambda options, config: key.write(config, rotate=options.rotate))

    command = commands.add_parser(
        "erase",
        help="take people's values out of raw and keep them out; `dbt build` goes on, the same call again finishes",
    )
    command.add_argument("--user-id", action="append", default=[], metavar="N", help="whom to erase; may be repeated")
    command.add_argument("--file", type=Path, metavar="F", help="whom to erase: a file of ids, one a line")
    command.add_argument("--check", action="store_true", help="only look for what is left, change nothing")
    command.set_defaults(
        run=lambda options, config: erasure.erase(
            config, erasure.parse_ids(options.user_id, options.file), check=options.check
        )
    )

    command = commands.add_parser("compact", help="make one file of each closed day of raw that has several")
    command.add_argument(
        "--day",
        type=date.fromisoformat,
        metavar="YYYY-MM-DD",
        help="only this load_date; else all closed days, the oldest first",
    )
    command.set_defaults(run=lambda options, config: compaction.compact(config, day=options.day))

    command = commands.add_parser("retain", help="remove what is older than RAW_RETENTION_DAYS and no longer needed")
    command.set_defaults(run=lambda options, config: retention.retain(config))

    command = commands.add_parser(
        "verify",
        help="compare curated.users with the customer table: exit code 0 if they are equal, 2 if they differ, "
        "1 if they could not be compared",
    )
    command.add_argument("--keys", action="store_true", help="name the ids of the rows that differ")
    command.set_defaults(run=lambda options, config: verify.verify(config, keys=options.keys))

    command = commands.add_parser("watch", help="alert, and exit with 1, when the schedule has not succeeded lately")
    command.add_argument("--dag", default="lakehouse", help="which one (%(default)s)")
    command.add_argument("--minutes", type=float, default=10, help="how long it may go without (%(default)s)")
    command.set_defaults(run=lambda options, config: success.check(config, options.dag, options.minutes))

    command = commands.add_parser("alert", help="try the target of alerts")
    command.add_argument("--test", action="store_true", required=True, help="send an alert that means nothing")
    command.set_defaults(run=lambda options, config: alerts.trial(config))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    started = time.monotonic()
    try:
        config = settings.from_environment()
        done = options.run(options, config)
    except LoaderError as error:
        log.error("%s", error)
        return error.exit_code
    except OSError as error:  # a full disk, a folder that may not be written, a connection refused
        log.error("the lake or this machine failed, nothing was landed in part: %s", error)
        return 1
    seconds = round(time.monotonic() - started, 3)
    if config.metrics == "emf" and isinstance(done, Landed):
        print(metrics.emf(done, seconds, datetime.now(UTC)))
    print(json.dumps(asdict(done) | {"seconds": seconds}))
    return done.exit_code if isinstance(done, Erasure | Verified) else 0


if __name__ == "__main__":
    sys.exit(main())
