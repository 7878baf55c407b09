"""The stand-in's own process: the proxy, GetCredentials, and what both need of PostgreSQL.

    python -m sandbox.redshift.server FOLDER

sandbox.redshift.start starts it and leaves its settings in FOLDER. It prints `ready` once it answers. The lake that
external schemas show is that of its environment.
"""

import asyncio
import json
import os
import secrets
import ssl
import sys
import threading
from pathlib import Path
from typing import Any

import psycopg

from sandbox.redshift import proxy, refusals
from sandbox.redshift.credentials import Credentials, Server
from sandbox.redshift.external import ExternalError, ExternalTables
from sandbox.redshift.faults import Faults
from sandbox.redshift.lakes import open_lake
from sandbox.redshift.rewrite import RefusedError


async def main(folder: Path) -> None:
    settings = json.loads((folder / "server.json").read_text())
    upstream = proxy.Upstream(**settings["upstream"])
    dsn = f"postgresql://{upstream.user}:{upstream.password}@127.0.0.1:{upstream.port}/{upstream.database}"
    credentials, faults = Credentials(), Faults()
    external = ExternalTables(open_lake(os.environ), lambda: psycopg.connect(dsn, autocommit=True))

    def find_user(name: str) -> proxy.User | None:
        """Users of the database, with the password that GetCredentials gave or their own."""
        known = "select digest, salt, session_timeout, statement_timeout from rs.users where usename = %s"
        with psycopg.connect(dsn) as connection:
            found = connection.execute(known, [name]).fetchone()
        if found is None:
            return None
        digest, salt, *timeouts = found
        salted = bytes.fromhex(salt) if salt else secrets.token_bytes(32)
        digests = [bytes.fromhex(digest)] if digest else []
        if given := credentials.find(name):
            digests.append(given.digest(salted))
        return proxy.User(name, tuple(digests), salted, *timeouts)

    async def prepare(statement: str) -> None:
        try:
            await asyncio.to_thread(external.prepare, statement)
        except (ExternalError, psycopg.Error) as error:
            raise RefusedError(f"an external table cannot be read: {error}") from None

    def refuse(statement: str, in_transaction: bool) -> list[str]:
        if not settings["refuses"]:
            return []
        return [str(mistake) for mistake in refusals.mistakes(statement, in_transaction=in_transaction)]

    with (folder / "statements.jsonl").open("a", buffering=1) as file:

        def log(entry: dict[str, Any]) -> None:
            file.write(json.dumps(entry) + "\n")

        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
        services = proxy.Services(upstream, find_user, prepare, refuse, faults, log)
        http = Server(settings["ports"]["credentials"], credentials, faults, settings["environment"])
        threading.Thread(target=http.serve_forever, daemon=True).start()
        async with await proxy.serve(settings["ports"]["proxy"], tls, services) as server:
            print("ready", flush=True)
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
