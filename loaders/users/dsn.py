"""The DSNs of the customer database: parsed strictly, so that no error shows a piece of a password.

libpq reads on where a password holds an unescaped `@` or `/`: what follows becomes a host, a port or a database, and
its error messages quote those. Such a DSN is refused here without a quotation, and libpq's own text about a
connection is never passed on.
"""

import re
from dataclasses import dataclass, field

import psycopg
from psycopg.conninfo import conninfo_to_dict

from loaders.errors import OperatorError

QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'")
KEY = re.compile(r"(\w+)\s*=")
URL = re.compile(r"postgres(?:ql)?://(?P<user>[^@/]*@)?(?P<rest>.*)", re.DOTALL)
HOST = re.compile(r"[\w.:-]*|[/@].*")  # a name or address, or a folder of sockets
PORT = re.compile("[0-9]{0,5}")


@dataclass(frozen=True)
class Dsn:
    """A well-formed DSN. It stays out of the repr: it holds a password."""

    setting: str  # the setting that it comes from
    parameters: dict[str, str] = field(repr=False)  # by libpq's names

    @property
    def place(self) -> str:
        """Where it leads to, without user and password: `db.example.com:5432`."""
        if not (hosts := self.parameters.get("host") or self.parameters.get("hostaddr")):
            return "the host that libpq chooses"
        ports = self.parameters.get("port", "").split(",")
        ports = ports * len(hosts.split(",")) if len(ports) == 1 else ports
        return ", ".join(f"{host}:{port or 5432}" for host, port in zip(hosts.split(","), ports, strict=False))


def parse(text: str, setting: str) -> Dsn:
    """Raises OperatorError unless the text is a libpq URL, or key=value pairs, that can be read in one way only."""
    try:
        parameters = {name: str(value) for name, value in conninfo_to_dict(text).items()}
    except (psycopg.Error, UnicodeDecodeError):  # %ED alone is no UTF-8
        parameters = None
    url = URL.fullmatch(text)
    keys = [] if url else KEY.findall(QUOTED.sub("", text))
    if (
        parameters is None
        or (url and "@" in url["rest"])
        or len(keys) != len(set(keys))
        or not all(map(HOST.fullmatch, parameters.get("host", "").split(",")))
        or not all(map(PORT.fullmatch, parameters.get("port", "").split(",")))
    ):
        raise OperatorError(
            f"{setting} is not a well-formed libpq URL (postgresql://user:password@host:5432/database) or list of "
            "key=value. In a URL, write each character of a password that is no letter or digit as %XX: @ is %40, / is "
            "%2F. In a list, put the password in single quotes"
        )
    return Dsn(setting, parameters)
