"""dbt-duckdb's plugin of this project (profiles.yml): dbt waits for a DuckDB file that another process has open."""

from pathlib import Path
from typing import Any

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin

from loaders import duckdb_file, settings
from loaders.errors import LoaderError


class Plugin(BasePlugin):
    """Opens the file just before dbt does; both connections share it, so that nobody comes between them."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        self.patience = float(plugin_config["patience"])  # seconds
        self.first: duckdb.DuckDBPyConnection | None = None

    def update_connection_config(self, creds: Any, config: dict[str, Any]) -> None:
        try:
            settings.from_environment()  # refuses what dbt and DuckDB would misread
            Path(creds.path).parent.mkdir(parents=True, exist_ok=True)  # nothing may have landed yet
            self.first = duckdb_file.connect(creds.path, patience=self.patience, config=config)
        except (LoaderError, duckdb.Error, OSError) as error:
            raise RuntimeError(str(error)) from None  # dbt-duckdb shows the text of this class without a traceback

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        if self.first:
            self.first.close()
            self.first = None
