"""What a DSN means, and that no error shows a piece of its password."""

import re
import traceback
from urllib.parse import quote

import pytest

from loaders.errors import LoaderError, OperatorError
from loaders.users import dsn, server

# Nobody listens on port 1.
URL, PAIRS = "postgresql://loader:{}@127.0.0.1:1/customer", "host=127.0.0.1 port=1 user=loader password={}"
PASSWORDS = (
    "segredo", "segr:edo@forte", "s3nh@Forte:99/xyz", "segr/edo", "segr?edo=forte", "segr?edo@forte", "segr#edo@forte",
    "segr%edo", "segr%zzedo", "segr edo", "segr&sslmode=forte", "segr'edo", "segr\\edo", "segr host=forte",
    "segr dbname=forte port=99", "[segr]edo", "segr=edo", "@@segr//edo", "çãsegr€edo", "segr\tedo", "segr,edo",
)  # fmt: skip


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("replication", [False, True])
def test_no_error_holds_a_piece_of_the_password(password: str, replication: bool) -> None:
    """Change-data faults M1. KIND: the driver's text of a connection error is passed on."""
    quoted = password.replace("\\", "\\\\").replace("'", "\\'")
    pieces = {piece for piece in re.split(r"\W+", password) if len(piece) > 2} - {"host", "port", "dbname", "sslmode"}
    for text in (
        URL.format(password),
        URL.format(quote(password, safe="")),
        PAIRS.format(password),
        PAIRS.format(f"'{quoted}'"),
        f"postgresql://127.0.0.1:1/customer?user=loader&password={password}",
        f"postgresql://loader:{password}@127.0.0.1:1,127.0.0.1:2/customer",
        f"postgres:/loader:{password}@127.0.0.1:1/customer",
        f"service=nosuch password='{quoted}'",
    ):
        with pytest.raises(LoaderError) as raised:
            server.connect(text, replication=replication, setting="CUSTOMER_SNAPSHOT_DSN")
        shown = "".join(traceback.format_exception(raised.value))
        assert [piece for piece in pieces if piece in shown] == []


def test_where_a_dsn_leads_to() -> None:
    for text, place in (
        ("postgresql://loader:s%40n@db.example.com/customer", "db.example.com:5432"),
        ("postgresql://loader:s:n#a@[::1]:6543/customer", "::1:6543"),
        ("postgresql://a,b:7/customer", "a:5432, b:7"),
        ("host=a,b port=7 password='it''s'", None),
        ("host=a,b port=7 password='host=c'", "a:7, b:7"),
        ("host=/run/postgresql", "/run/postgresql:5432"),
        ("dbname=customer", "the host that libpq chooses"),
    ):
        if place is None:
            with pytest.raises(OperatorError, match="well-formed"):
                dsn.parse(text, "CUSTOMER_DSN")
        else:
            assert dsn.parse(text, "CUSTOMER_DSN").place == place
            assert text not in repr(dsn.parse(text, "CUSTOMER_DSN"))
