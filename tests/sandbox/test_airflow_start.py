"""The order in which the parts of the sandbox's Airflow start, with stand-ins for the parts."""

import os
import sys
from pathlib import Path

import pytest

from sandbox import airflow, postgres, processes

SERVER = """
import http.server, json, sys, time
time.sleep(1)  # an API server takes seconds until it answers
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        parts = ("scheduler", "dag_processor", "triggerer")
        self.wfile.write(json.dumps({part: {"status": "healthy"} for part in parts}).encode())
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health).serve_forever()
"""
CALLER = """
import sys, time, urllib.request
print(urllib.request.urlopen(sys.argv[1]).status, flush=True)
time.sleep(600)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SANDBOX_HOME", str(tmp_path))
    return tmp_path


def test_a_part_starts_when_the_one_that_it_calls_answers(home: Path) -> None:
    """Use faults F9."""
    port = postgres.free_port()
    url = f"http://127.0.0.1:{port}"
    parts = {"server": [sys.executable, "-c", SERVER, str(port)], "caller": [sys.executable, "-c", CALLER, url]}
    try:
        airflow.start_parts(parts, url, os.environ)
        while not (said := processes.log("caller").read_text()):
            assert processes.running("caller")
        assert said == "200\n"
    finally:
        processes.stop(*parts)


def test_a_part_that_ends_is_named_with_its_log(home: Path) -> None:
    parts = {"server": [sys.executable, "-c", "raise SystemExit(1)"], "caller": [sys.executable, "-c", ""]}
    with pytest.raises(airflow.AirflowError, match=r"did not start \(api-server\): see .*/server\.log"):
        airflow.start_parts(parts, f"http://127.0.0.1:{postgres.free_port()}", os.environ)
    assert not processes.log("caller").exists()
