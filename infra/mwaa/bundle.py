"""`make mwaa`: put together what an MWAA environment is given, from this repository alone.

    dags/             for the environment's DAG folder: the DAGs, loaders, privacy, dbt's project, profiles and manifest
    requirements.txt  what to install; its constraints, in the DAG folder, are requirements.lock without hashes
    startup.sh        where those parts lie

Airflow, boto3 and what they hang on are MWAA's: neither file names their versions.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CONSTRAINTS = "constraints.txt"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "target", "logs", ".user.yml")
# By MWAA: what it lets nobody change (aws/amazon-mwaa-docker-images, images/airflow/3.3.1/etc/
# mwaa_essential_constraints.txt), and boto3, which its aiobotocore holds. Where two constraints on one package differ,
# pip installs nothing.
BROUGHT = re.compile(
    r"(apache-airflow(-core|-task-sdk)?|billiard|boto3|botocore|celery|flask(-\w+)*|fluent-logger|gevent|greenlet"
    r"|gunicorn|kombu|s3transfer|sqlalchemy(-utils)?|statsd|vine|watchtower)(?![\w-])"
)


def bundle(folder: Path) -> None:
    """Make the bundle anew. Raises CalledProcessError when dbt cannot read the project."""
    shutil.rmtree(folder, ignore_errors=True)
    dags = folder / "dags"
    shutil.copytree(ROOT / "dags", dags, ignore=LEFT_OUT)
    for name in ("loaders", "privacy", "dbt_project"):
        shutil.copytree(ROOT / name, dags / name, ignore=LEFT_OUT)
    shutil.copyfile(ROOT / "profiles.yml", dags / "profiles.yml")
    shutil.copyfile(ROOT / "infra/mwaa/startup.sh", folder / "startup.sh")
    (dags / CONSTRAINTS).write_text("".join(f"{line}\n" for line in constraints()))
    at = f"/usr/local/airflow/dags/{CONSTRAINTS}"
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in [f'--constraint "{at}"', *requirements()]))
    _manifest(dags)


def requirements() -> list[str]:
    """What the loaders, dbt and the DAGs import beside what MWAA brings, as pyproject.toml says it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *extras["dbt"], *extras["airflow"]]
    return [requirement for requirement in named if not BROUGHT.match(requirement)]


def constraints() -> list[str]:
    """The lock's versions, without hashes: pip takes none where a constraint is no requirement."""
    lines = re.sub(r" *\\\n *--hash=\S+", "", (ROOT / "requirements.lock").read_text()).splitlines()
    return [line for line in lines if line and not BROUGHT.match(line) and not line.startswith("#")]


def _manifest(dags: Path) -> None:
    dbt = [Path(sys.executable).with_name("dbt"), "--quiet", "parse", "--no-partial-parse"]
    folders = {"DBT_PROJECT_DIR": str(dags / "dbt_project"), "DBT_PROFILES_DIR": str(dags)}
    subprocess.run([*dbt, "--target-path", dags / "target"], env=os.environ | folders, check=True)
    (dags / "target/manifest.json").replace(dags / "manifest.json")
    for made in (dags / "target", dags / "dbt_project/logs"):
        shutil.rmtree(made, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m infra.mwaa.bundle", description=__doc__.partition("\n\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "build/mwaa", help="default: %(default)s")
    folder = parser.parse_args().folder
    bundle(folder)
    print(f"{folder}: what to do with it stands in infra/mwaa/README.md")


if __name__ == "__main__":
    import loaders.interruptible  # noqa: F401 (ends this program in one line when it is interrupted)

    main()
