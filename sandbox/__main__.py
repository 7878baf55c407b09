"""`python -m sandbox <command>`: start, stop and use the outside world.

A module that has commands offers `add_parser(subparsers)`; each of its parsers sets `run`, a function that takes
the parsed arguments and returns the exit code (None is 0).
"""

import argparse
import logging
import sys

from loaders.errors import LoaderError
from sandbox import airflow, athena, cost_export, customer_app, demo, disney_api, postgres, redshift, world
from sandbox.athena.artifacts import ArtifactError

MODULES = (world, demo, customer_app, disney_api, cost_export, redshift)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__.splitlines()[0])
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in MODULES:
        module.add_parser(subparsers)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    try:
        return args.run(args) or 0
    except LoaderError as error:  # of the settings, which the loaders read
        print(error, file=sys.stderr)
        return error.exit_code
    except (
        postgres.PostgresError,
        airflow.AirflowError,
        athena.AthenaError,
        ArtifactError,
        redshift.RedshiftError,
    ) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
