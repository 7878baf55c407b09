"""`python -m sandbox <command>`: start, stop and use the outside world.

A module that has commands offers `add_parser(subparsers)`; each of its parsers sets `run`, a function that takes
the parsed arguments and returns the exit code (None is 0).
"""

if __name__ == "__main__":  # before what takes time to import
    import loaders.interruptible  # noqa: F401 (ends this program in one line when it is interrupted)

import argparse
import logging
import sys

from loaders.errors import LoaderError
from sandbox import (
    airflow,
    athena,
    cost_export,
    customer_app,
    demo,
    disney_api,
    docs_site,
    home,
    postgres,
    redshift,
    world,
)
from sandbox.athena.artifacts import ArtifactError

MODULES = (world, demo, docs_site, customer_app, disney_api, cost_export, redshift)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__.splitlines()[0])
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in MODULES:
        module.add_parser(subparsers)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    homes = [home(), airflow.folder(), redshift.folder()]
    running = [each for each in homes if postgres.running(each)]
    try:
        return args.run(args) or 0
    except KeyboardInterrupt:
        for each in homes:
            if each not in running:
                postgres.stop(each)  # a server is no child of the command that started it, so it would stay
        raise
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
