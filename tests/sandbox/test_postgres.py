"""The servers against a machine that kills, takes ports and closes folders."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from sandbox import postgres


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home for servers of the test's own, in a folder that only its owner may enter."""
    yield tmp_path / "home"
    postgres.stop(tmp_path / "home")


def processes(servers: postgres.Servers) -> list[psutil.Process]:
    """All processes of both servers."""
    main = main_processes(servers)
    return [*main, *(child for process in main for child in process.children(recursive=True))]


def main_processes(servers: postgres.Servers) -> list[psutil.Process]:
    return [psutil.Process(main_pid(servers, server)) for server in postgres.SERVERS]


def lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE  # ended, and not yet collected by the machine's first process
    return False


def main_pid(servers: postgres.Servers, server: str) -> int:
    return int((servers.data(server) / "postmaster.pid").read_text().split()[0])


def shared_memory(pids: list[int]) -> list[str]:
    """System V segments that these processes have made."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return [line for line in lines if int(line.split()[4]) in pids]


def remember(servers: postgres.Servers, word: str) -> None:
    with psycopg.connect(servers.dsn(postgres.ADMIN)) as primary:
        primary.execute("CREATE TABLE IF NOT EXISTS words (word text)")
        primary.execute("INSERT INTO words VALUES (%s)", [word])


def words(servers: postgres.Servers) -> list[str]:
    """What the standby knows."""
    postgres.wait_for_standby(servers)
    with psycopg.connect(servers.dsn(postgres.ADMIN, server="standby")) as standby:
        return [word for (word,) in standby.execute("SELECT word FROM words ORDER BY word")]


def test_first_start_gives_a_primary_and_a_standby_that_follows(home: Path):
    servers = postgres.start(home)
    remember(servers, "a")
    assert words(servers) == ["a"]
    with psycopg.connect(servers.dsn(postgres.ADMIN)) as primary:
        assert primary.info.server_version // 10_000 == 18
        assert primary.execute("SHOW wal_level").fetchone() == ("logical",)
        assert primary.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)


def test_start_of_running_servers_changes_nothing(home: Path):
    with ThreadPoolExecutor() as pool:  # side by side, also for the first time
        first, second = pool.map(postgres.start, [home, home])
    running = {process.pid for process in processes(first)}
    third = postgres.start(home)
    assert first == second == third == postgres.running(home)
    assert {main_pid(third, server) for server in postgres.SERVERS} <= running


def test_servers_listen_on_loopback_only_and_run_as_an_ordinary_user(home: Path):
    for process in main_processes(postgres.start(home)):
        listening = {at.laddr.ip for at in process.net_connections("all") if at.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}
        assert process.uids().effective != 0


def test_stop_leaves_nothing_behind(home: Path):
    servers = postgres.start(home)
    running = processes(servers)
    pids = [process.pid for process in running]
    assert len(shared_memory(pids)) == 2
    postgres.stop(home)
    assert not any(map(lives, running))
    assert not shared_memory(pids)
    assert postgres.running(home) is None
    postgres.stop(home)  # again: nothing to do


def test_no_file_is_outside_the_home(home: Path):
    """Not in /tmp, where sockets usually are, nor in /dev/shm, where a kill would leave shared memory."""
    for process in main_processes(postgres.start(home)):
        files = [file.path for file in process.open_files()]
        shared = [map_.path for map_ in process.memory_maps() if map_.path.startswith("/dev/shm")]
        assert all(Path(path).is_relative_to(home) for path in [*files, *shared])
        assert not [at for at in process.net_connections("unix") if at.laddr]


@pytest.mark.parametrize("whole", [True, False], ids=["all processes", "main processes"])
def test_start_after_kill_9(home: Path, whole: bool):
    servers = postgres.start(home)
    remember(servers, "a")
    for process in processes(servers) if whole else main_processes(servers):
        with contextlib.suppress(psutil.NoSuchProcess):  # ended by itself, as its main process had gone
            process.kill()
    again = postgres.start(home)
    assert again == servers
    remember(again, "b")
    assert words(again) == ["a", "b"]


def test_start_after_a_kill_during_the_first_start(home: Path):
    program = f"from pathlib import Path; from sandbox import postgres; postgres.start(Path({str(home)!r}))"
    for step in ("primary.new", "primary", "standby.new"):
        with subprocess.Popen([sys.executable, "-c", program]) as starting:
            while starting.poll() is None and not (home / "postgres" / step).exists():
                pass
            starting.kill()
    servers = postgres.start(home)
    remember(servers, "a")
    assert words(servers) == ["a"]


def test_a_process_id_that_another_program_has_now_is_no_server(home: Path):
    servers = postgres.start(home)
    postgres.stop(home)
    owner = servers.data("primary").stat().st_uid
    with subprocess.Popen(["sleep", "600"], user=owner if os.geteuid() == 0 else None, cwd="/") as other:
        for server in postgres.SERVERS:  # as after a reboot
            (servers.data(server) / "postmaster.pid").write_text(f"{other.pid}\n{servers.data(server)}\n")
        postgres.stop(home)
        assert other.poll() is None
        postgres.start(home)
        other.kill()


def test_a_taken_port_is_replaced(home: Path):
    ports = dict(postgres.start(home).ports)
    postgres.stop(home)
    with socket.create_server(("127.0.0.1", ports["primary"])):
        servers = postgres.start(home)
        assert servers.ports["primary"] != ports["primary"]
        assert servers.ports["standby"] == ports["standby"]
        remember(servers, "a")
        assert words(servers) == ["a"]


def test_the_standby_finds_a_primary_that_has_moved(home: Path):
    servers = postgres.start(home)
    port = servers.ports["primary"]
    psutil.Process(main_pid(servers, "primary")).kill()
    standby = main_pid(servers, "standby")
    while not postgres.is_free(port):
        pass
    with socket.create_server(("127.0.0.1", port)):
        servers = postgres.start(home)
        remember(servers, "a")
        assert words(servers) == ["a"]
    assert main_pid(servers, "standby") == standby


def test_a_standby_that_was_away_for_too_long_is_made_again(home: Path):
    servers = postgres.start(home)
    postgres._halt(servers, "standby", "fast")
    with psycopg.connect(servers.dsn(postgres.ADMIN), autocommit=True) as primary:
        primary.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        primary.execute("SELECT pg_reload_conf()")
        while primary.execute("SELECT wal_status FROM pg_replication_slots").fetchone() != ("lost",):
            remember(servers, "a")
            primary.execute("SELECT pg_switch_wal()")
            primary.execute("CHECKPOINT")
        primary.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        primary.execute("SELECT pg_reload_conf()")
    assert set(words(postgres.start(home))) == {"a"}


def test_binaries_and_home_in_a_closed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As in /root, which nobody else may enter."""
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    package = postgres._binaries("pginstall18").parents[1]
    for part in (f"{package.name}/pginstall18", f"{package.name}.libs"):  # where the programs look for libraries
        shutil.copytree(package.parent / part, closed / part, symlinks=True)
    monkeypatch.setattr(postgres, "_binaries", lambda folder: closed / package.name / folder / "bin")
    try:
        servers = postgres.start(closed / "home")
        remember(servers, "a")
        assert words(servers) == ["a"]
    finally:
        postgres.stop(closed / "home")
        shutil.rmtree(closed)


def test_root_in_a_container_starts_and_stops_servers(home: Path):
    """Its capabilities are fewer: it may not look into other users' processes, for example."""
    capabilities = "-all,+chown,+dac_override,+fowner,+kill,+setgid,+setuid,+setpcap"
    container = ["setpriv", f"--bounding-set={capabilities}"] if os.geteuid() == 0 else []
    program = f"from pathlib import Path; from sandbox import postgres; postgres.{{}}(Path({str(home)!r}))"
    subprocess.run([*container, sys.executable, "-c", program.format("start")], check=True)
    running = processes(postgres.running(home))
    subprocess.run([*container, sys.executable, "-c", program.format("stop")], check=True)
    assert not any(map(lives, running))


def test_no_capability_where_all_folders_are_open():
    assert not any("caps" in word for word in postgres._drop(Path("/usr/bin")))


def test_a_hung_reader_of_changes_keeps_no_stop_waiting(home: Path, monkeypatch: pytest.MonkeyPatch):
    servers = postgres.start(home)
    monkeypatch.setattr(postgres, "STOP_PATIENCE", 1)
    with psycopg.connect(servers.dsn(postgres.ADMIN), autocommit=True) as admin:
        admin.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        admin.execute("SELECT pg_create_logical_replication_slot('reader', 'pgoutput')")
    reader = psycopg.connect(servers.dsn(postgres.ADMIN), autocommit=True, replication="database")
    options = "proto_version '1', publication_names 'everything'"
    reader.pgconn.exec_(f"START_REPLICATION SLOT reader LOGICAL 0/0 ({options})".encode())
    remember(servers, "a")
    running = processes(servers)
    postgres.stop(home)  # the reader never confirms anything
    assert not any(map(lives, running))
    reader.close()
    assert words(postgres.start(home)) == ["a"]


def test_logs_hold_no_values(customer: postgres.Database, servers: postgres.Servers):
    with psycopg.connect(customer.app_dsn, autocommit=True) as app:
        app.execute("CREATE UNIQUE INDEX ON usuarios (cpf)")
        insert = "INSERT INTO usuarios (nome, email, cpf) VALUES ('Fulana Secreta', 'x@correio.example', '11144477735')"
        app.execute(insert)
        with pytest.raises(psycopg.errors.UniqueViolation):
            app.execute(insert)
        with pytest.raises(psycopg.errors.SyntaxError):
            app.execute("SELEC 'Fulana Secreta'")
    log = servers.data("primary").with_suffix(".log").read_text()
    assert "duplicate key value" in log
    assert "Secreta" not in log
    assert "11144477735" not in log


def test_passwords_are_closed_to_others(servers: postgres.Servers, customer: postgres.Database):
    assert (servers.home / "servers.json").stat().st_mode & 0o077 == 0
    secrets = [*servers.passwords.values()]
    assert len(set(secrets)) == 4
    assert not any(secret in repr((servers, customer)) for secret in secrets)
    for process in main_processes(servers):
        assert not any(secret in " ".join(process.cmdline()) for secret in secrets)


def test_a_wrong_password_is_refused(servers: postgres.Servers):
    dsn = servers.dsn(postgres.APP).replace(servers.passwords[postgres.APP], "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn)


def test_the_loader_may_read_the_table_and_its_changes(customer: postgres.Database):
    with psycopg.connect(customer.dsn, autocommit=True) as loader:
        loader.execute("SELECT pg_create_logical_replication_slot('reader', 'pgoutput')")
        with psycopg.connect(customer.app_dsn) as app:
            app.execute("INSERT INTO usuarios (nome, email, cpf) VALUES ('a', 'b', 'c')")
        assert loader.execute("SELECT nome FROM usuarios").fetchall() == [("a",)]
        peek = "SELECT data FROM pg_logical_slot_peek_binary_changes('reader', NULL, NULL, %s, %s, %s, %s)"
        changes = loader.execute(peek, ["proto_version", "1", "publication_names", "lakehouse_usuarios"])
        assert b"I" in [message[:1] for (message,) in changes]
    with psycopg.connect(customer.dsn, autocommit=True, replication="database") as stream:
        assert stream.pgconn.exec_(b"IDENTIFY_SYSTEM").ntuples == 1


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO usuarios (nome, email, cpf) VALUES ('a', 'b', 'c')",
        "DELETE FROM usuarios",
        "LOCK TABLE usuarios",
        "CREATE TABLE mine (id int)",
        "DROP PUBLICATION lakehouse_usuarios",
        "SELECT rolpassword FROM pg_authid",
        "COPY usuarios TO '/dev/null'",
    ],
)
def test_the_loader_may_do_no_more(customer: postgres.Database, statement: str):
    with psycopg.connect(customer.dsn) as loader, pytest.raises(psycopg.errors.InsufficientPrivilege):
        loader.execute(statement)


def test_the_loader_may_not_copy_the_whole_server(servers: postgres.Servers):
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        psycopg.connect(servers.dsn(postgres.LOADER), replication="true")
