"""The vault's key table: what is refused, what is written, that writing it twice changes nothing, and its rotation."""

import hashlib
import hmac
import io
import stat
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders import key
from loaders.errors import OperatorError, TransientError
from loaders.lake import Lake, open_lake
from loaders.raw import Landed
from loaders.settings import Settings, from_environment

KEY = "8f" * 32
OTHER_KEY = "1c" * 40


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    return tmp_path / "vault"


def settings(vault: Path, **variables: str) -> Settings:
    return from_environment({"VAULT_URI": str(vault)} | variables)


@given(secret=st.binary(min_size=32, max_size=200), value=st.binary(max_size=300))
def test_the_pads_make_the_same_digest_as_hmac(secret: bytes, value: bytes) -> None:
    row = key.pads(secret)
    inner, outer = bytes.fromhex(row["inner_pad"]), bytes.fromhex(row["outer_pad"])
    digest = hashlib.sha256(outer + hashlib.sha256(inner + value).digest())
    assert digest.hexdigest() == hmac.new(secret, value, "sha256").hexdigest()


def test_the_table_is_one_row_that_only_its_owner_may_read(vault: Path) -> None:
    landed = key.write(settings(vault, MASKING_KEY=KEY))
    table = vault / key.KEY
    assert pq.read_table(table).to_pylist() == [key.pads(bytes.fromhex(KEY))]
    assert landed.rows == 1
    assert KEY not in str(landed)
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    assert stat.S_IMODE(vault.stat().st_mode) == 0o700


@pytest.mark.parametrize("again", [{"MASKING_KEY": KEY}, {"MASKING_KEY": KEY.upper()}, {}])
def test_a_second_call_changes_nothing(vault: Path, again: dict[str, str]) -> None:
    key.write(settings(vault, MASKING_KEY=KEY))
    before = (vault / key.KEY).stat()
    assert key.write(settings(vault, **again)).rows == 0
    assert (vault / key.KEY).stat() == before


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "has no masking key yet"),
        ({"MASKING_KEY": "ab" * 31}, "has 31 bytes"),
        ({"MASKING_KEY": "not hex at all" * 8}, "is not hex"),
        ({"MASKING_KEY": KEY, "MASKING_KEY_SECRET_ID": "lakehouse/key"}, "both set"),
    ],
)
def test_a_key_that_will_not_do_is_refused(vault: Path, variables: dict[str, str], message: str) -> None:
    with pytest.raises(OperatorError, match=message) as refused:
        key.write(settings(vault, **variables))
    assert variables.get("MASKING_KEY", KEY) not in str(refused.value)
    assert not (vault / key.KEY).exists()


def test_another_key_does_not_replace_the_one_in_use(vault: Path) -> None:
    key.write(settings(vault, MASKING_KEY=KEY))
    with pytest.raises(OperatorError, match="the vault holds key"):
        key.write(settings(vault, MASKING_KEY=OTHER_KEY))
    assert pq.read_table(vault / key.KEY).to_pylist() == [key.pads(bytes.fromhex(KEY))]


def test_the_key_comes_from_secrets_manager(vault: Path, aws: None) -> None:
    with pytest.raises(OperatorError, match="cannot read the secret lakehouse/key"):
        key.write(settings(vault, MASKING_KEY_SECRET_ID="lakehouse/key"))
    boto3.client("secretsmanager").create_secret(Name="lakehouse/key", SecretString=f"{KEY}\n")
    key.write(settings(vault, MASKING_KEY_SECRET_ID="lakehouse/key"))
    assert pq.read_table(vault / key.KEY).to_pylist() == [key.pads(bytes.fromhex(KEY))]


# ---------- rotation


def rows(vault: Lake) -> dict[str, list[dict[str, str]]]:
    """All tables of the vault by their keys."""
    return {
        name: pq.read_table(io.BytesIO(vault.read(name)[0])).to_pylist()
        for name in vault.keys("")
        if name.endswith(".parquet")
    }


@pytest.fixture(params=["folder", "s3"])
def vault_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"s3://{request.getfixturevalue('bucket')}/vault" if request.param == "s3" else str(tmp_path / "vault")


def run(uri: str, secret: str | None, *, rotate: bool = True) -> Landed:
    return key.write(from_environment({"VAULT_URI": uri, "MASKING_KEY": secret or ""}), rotate=rotate)


def test_a_rotation_puts_the_new_key_in_place_of_the_old_one(vault_uri: str) -> None:
    run(vault_uri, KEY, rotate=False)
    landed = run(vault_uri, OTHER_KEY)
    new = key.pads(bytes.fromhex(OTHER_KEY))
    assert (landed.batch_id, landed.rows) == (new["key_id"], 1)
    assert rows(open_lake(vault_uri)) == {key.KEY: [new]}


def test_a_rotation_to_the_key_in_use_changes_nothing(vault_uri: str) -> None:
    run(vault_uri, KEY, rotate=False)
    run(vault_uri, OTHER_KEY)
    before = open_lake(vault_uri).read(key.KEY), rows(open_lake(vault_uri))
    assert run(vault_uri, OTHER_KEY).rows == 0
    assert (open_lake(vault_uri).read(key.KEY), rows(open_lake(vault_uri))) == before


def test_a_rotation_of_an_empty_vault_fills_it(vault_uri: str) -> None:
    assert run(vault_uri, KEY).rows == 1
    assert set(rows(open_lake(vault_uri))) == {key.KEY}


@pytest.mark.parametrize(
    ("secret", "message"), [(None, "no new key was given: set MASKING_KEY"), ("ab" * 31, "has 31 bytes")]
)
def test_a_rotation_needs_a_key_that_will_do(vault: Path, secret: str | None, message: str) -> None:
    run(str(vault), KEY)
    before = rows(open_lake(str(vault)))
    with pytest.raises(OperatorError, match=message):
        run(str(vault), secret)
    assert rows(open_lake(str(vault))) == before


def test_a_rotation_names_no_key_but_by_its_id(vault: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run(str(vault), KEY)
    landed = run(str(vault), OTHER_KEY)
    said = f"{landed} {caplog.text}".lower()
    pads = [key.pads(bytes.fromhex(secret)) for secret in (KEY, OTHER_KEY)]
    secrets = [KEY, OTHER_KEY, *(row[pad] for row in pads for pad in ("inner_pad", "outer_pad"))]
    assert pads[1]["key_id"] in said
    assert [secret for secret in secrets if secret in said] == []


@pytest.mark.parametrize("after_the_write", [False, True])
def test_a_rotation_that_was_killed_is_finished_by_the_next(
    vault_uri: str, after_the_write: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed just before or after its one write: the vault has one key or the other, never none."""
    run(vault_uri, KEY)
    kind = type(open_lake(vault_uri))
    write = kind.write

    def killed(*arguments: Any, **options: Any) -> None:
        if after_the_write:
            write(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(kind, "write", killed)
        run(vault_uri, OTHER_KEY)
    old, new = (key.pads(bytes.fromhex(secret)) for secret in (KEY, OTHER_KEY))
    assert rows(open_lake(vault_uri)) == {key.KEY: [new if after_the_write else old]}
    run(vault_uri, OTHER_KEY)
    assert rows(open_lake(vault_uri)) == {key.KEY: [new]}


def test_two_rotations_at_once_are_refused(vault: Path) -> None:
    run(str(vault), KEY)
    with open_lake(str(vault), private=True).lock(key.TABLE), pytest.raises(TransientError, match="another run holds"):
        run(str(vault), OTHER_KEY)
    assert set(rows(open_lake(str(vault)))) == {key.KEY}


def test_a_vault_that_holds_something_else_is_left_alone(vault: Path) -> None:
    path = vault / key.KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not Parquet")
    with pytest.raises(OperatorError, match="is not what this loader wrote"):
        run(str(vault), OTHER_KEY)
    assert path.read_bytes() == b"not Parquet"
