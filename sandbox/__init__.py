"""The outside world on a laptop: the customer database, the application that writes to it, the Disney API, AWS's bills.

The loaders, the DAGs and dbt never import this package: they meet it only through a DSN, a URL or what AWS itself
delivers to the lake.
"""

from pathlib import Path

from loaders import settings


def home() -> Path:
    """The folder that holds everything the sandbox writes (SANDBOX_HOME, by default .sandbox in the project's root)."""
    return Path(settings.place("SANDBOX_HOME"))
