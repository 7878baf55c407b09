"""The vault's key table: what is refused, what is written, and that writing it twice changes nothing."""

import hashlib
import hmac
import stat
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders import key
from loaders.errors import OperatorError
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
