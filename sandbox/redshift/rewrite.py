"""Redshift's SQL as PostgreSQL 16 takes it.

A statement keeps its own text but for the tokens that a rule replaces. Each rule says why it is there. What no rule
knows is refused: then the stand-in would answer for something that nobody has compared with Redshift.
Pages are those of Amazon Redshift's Database Developer Guide.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import sqlglot
from sqlglot.tokens import Token, TokenType


class RefusedError(Exception):
    """A statement that Redshift refuses or the stand-in does not know; the message says what and why."""


_COMMENT = re.compile(r"\s*(/\*.*?\*/|--[^\n]*\n)\s*", re.S)
_NAME = r'("[^"]+"|\w+)'
_EXTERNAL_SCHEMA = re.compile(
    rf"create\s+external\s+schema\s+if\s+not\s+exists\s+{_NAME}\s+from\s+data\s+catalog\s+database\s+'(\w+)'"
    r"\s+iam_role\s+(default|'[^']+')",
    re.I,
)
_LATE_BINDING = re.compile(
    r"create\s+(?:or\s+replace\s+)?view\s+(\S+)\s+as\s+(.*?)\s*with\s+no\s+schema\s+binding", re.I | re.S
)
_USER = re.compile(rf"(create|alter)\s+user\s+{_NAME}\s+(.*)", re.I | re.S)
_USER_OPTION = re.compile(
    r"password\s+(?P<disable>disable)|password\s+'sha256\|(?P<digest>[0-9a-f]{64})\|(?P<salt>[0-9a-f]{64})'"
    r"|session\s+timeout\s+(?P<timeout>\d+)|set\s+statement_timeout\s+(to|=)\s+(?P<statement>\d+)|syslog\s+access\s+(?P<access>restricted|unrestricted)",
    re.I,
)
_SESSION_TIMEOUT = range(60, 1_728_001)  # seconds (r_CREATE_USER)

# What a statement may begin with, beside what has a rule of its own.
_KNOWN = re.compile(
    r"(select|with|insert\s+into|update|delete\s+from|truncate|analyze|explain|begin|commit|rollback|start\s+transaction"
    r"|create\s+(local\s+)?(temp|temporary)?\s*(table|view)|create\s+or\s+replace\s+view|create\s+schema|create\s+role"
    r"|alter\s+table|drop\s+(table|view|schema|role|user)|grant|revoke|comment\s+on|set\s+statement_timeout)\b",
    re.I,
)


@lru_cache(maxsize=4096)
def rewrite(sql: str) -> str:
    """The statement for PostgreSQL. Raises RefusedError for one that no rule knows."""
    bare = without_comments(sql)
    for rule in (_external_schema, _late_binding_view, _user):
        if (rewritten := rule(bare)) is not None:
            return rewritten
    if bare and not _KNOWN.match(bare):
        raise RefusedError(f"the stand-in does not know this kind of statement: {' '.join(bare.split()[:3])}")
    return _spliced(sql)


def without_comments(sql: str) -> str:
    """The statement without what stands before it and without its semicolon."""
    while found := _COMMENT.match(sql):
        sql = sql[found.end() :]
    return sql.strip().rstrip(";").rstrip()


def dotted_names(sql: str) -> set[tuple[str, str]]:
    """Every `schema.name` that the statement holds, of `database.schema.name` too, in lower case."""
    tokens = _tokens(sql)
    return {
        (first.text.lower(), last.text.lower())
        for first, dot, last in zip(tokens, tokens[1:], tokens[2:], strict=False)
        if dot.token_type == TokenType.DOT
    }


# ---------- statements that PostgreSQL does not have


def _external_schema(sql: str) -> str | None:
    """An external schema is a schema and a note of the Glue database whose tables are copied into it (external.py)."""
    if not re.match(r"create\s+external\b", sql, re.I):
        return None
    found = _EXTERNAL_SCHEMA.fullmatch(sql)
    if not found:
        raise RefusedError("the stand-in knows CREATE EXTERNAL SCHEMA IF NOT EXISTS ... FROM DATA CATALOG alone")
    name, database, role = _unquoted(found[1]).lower(), found[2], found[3].strip("'")
    return f"select rs.create_external_schema({literal(name)}, {literal(database)}, {literal(role)})"


def _late_binding_view(sql: str) -> str | None:
    """WITH NO SCHEMA BINDING: nothing keeps its tables from being dropped, and it follows those that replace them."""
    if not re.search(r"\bno\s+schema\s+binding$", sql, re.I):
        return None
    found = _LATE_BINDING.fullmatch(sql)
    if not found:
        raise RefusedError("the stand-in does not know this form of WITH NO SCHEMA BINDING")
    return f"select rs.create_late_binding_view({literal(found[1])}, {literal(_spliced(found[2]))})"


def _user(sql: str) -> str | None:
    """Users have options that PostgreSQL's roles do not have; the proxy checks passwords and sets timeouts itself."""
    found = _USER.fullmatch(sql)
    if not found:
        return None
    options, rest = {}, found[3].strip()
    while rest:
        option = _USER_OPTION.match(rest)
        if not option:
            raise RefusedError(f"the stand-in does not know this option of a user: {rest.split()[0]}")
        options |= {name: value for name, value in option.groupdict().items() if value}
        rest = rest[option.end() :].strip()
    timeout = options.get("timeout")
    if timeout and int(timeout) not in _SESSION_TIMEOUT:
        raise RefusedError("SESSION TIMEOUT is 60 to 1728000 seconds")
    sees_all = {"unrestricted": "true", "restricted": "false"}.get(options.get("access", "").lower(), "null")
    name = literal(_unquoted(found[2]))
    if found[1].lower() == "create":
        if "disable" not in options or "statement" in options:
            raise RefusedError("the stand-in knows CREATE USER ... PASSWORD DISABLE alone")
        return f"select rs.create_user({name}, {timeout or 'null'}, {sees_all})"
    digest, salt = (literal(options[each]) if each in options else "null" for each in ("digest", "salt"))
    statement = options.get("statement", "null")
    return f"select rs.set_user({name}, {digest}, {salt}, {timeout or 'null'}, {statement}, {sees_all})"


# ---------- tokens

Edit = tuple[int, int, str]  # from, to (not included), the new text


def _spliced(sql: str) -> str:
    tokens = _tokens(sql)
    edits = [
        *_folded_names(tokens),
        *_extracts(tokens),
        *_varchars(sql, tokens),
        *_catalogues(tokens),
        *_late_binding_columns(tokens),
        *_storage(tokens),
        *_grantees(tokens),
    ]
    for start, end, text in sorted(edits, reverse=True):
        sql = sql[:start] + text + sql[end:]
    return sql


def _folded_names(tokens: list[Token]) -> Iterator[Edit]:
    """Quoted names fold to lower case too (r_names), but those of users keep theirs."""
    for token in tokens:
        is_users = token.text.startswith(("IAM:", "IAMR:"))
        if token.token_type == TokenType.IDENTIFIER and token.text != token.text.lower() and not is_users:
            yield token.start, token.end + 1, f'"{token.text.lower()}"'


def _extracts(tokens: list[Token]) -> Iterator[Edit]:
    """EXTRACT(part FROM value) is an integer there (r_EXTRACT_function) and a numeric here."""
    for name, opening, part, word in zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False):
        if _is(name, "extract") and opening.text == "(" and _is(word, "from"):
            yield name.start, word.end + 1, f"rs.extract_part('{part.text.lower()}',"


def _varchars(sql: str, tokens: list[Token]) -> Iterator[Edit]:
    """VARCHAR and TEXT without a length are VARCHAR(256), and a VARCHAR(n) holds n bytes (r_Character_types)."""
    creates = re.match(r"create\s+(local\s+)?(temp\s+|temporary\s+)?table\b", without_comments(sql), re.I)
    opened: list[bool] = []  # for each parenthesis that is open: whether it is a cast's
    for number, token in enumerate(tokens):
        before = tokens[number - 1] if number else token
        if token.text == "(":
            opened.append(_is(before, "cast"))
        elif token.text == ")" and opened:
            opened.pop()
        elif token.token_type in (TokenType.VARCHAR, TokenType.TEXT):
            is_cast = before.text == "::" or (_is(before, "as") and opened[-1:] == [True])
            is_column = bool(creates) and len(opened) == 1 and not is_cast and before.text not in ("(", ",")
            size = tokens[number + 2] if tokens[number + 1 : number + 2] and tokens[number + 1].text == "(" else None
            end = tokens[number + 3].end + 1 if size else token.end + 1
            if is_column:
                check = f' check (rs.fits("{before.text.lower()}", {size.text if size else 256}))'
                yield token.start, end, f"varchar({size.text if size else 256}){check}"
            elif is_cast and not size:
                yield token.start, end, "varchar(256)"


def _catalogues(tokens: list[Token]) -> Iterator[Edit]:
    """information_schema and pg_class list no external table there (getredash/redash #2038)."""
    for number, token in enumerate(tokens):
        before = [each.text for each in tokens[max(number - 2, 0) : number]]
        following = tokens[number + 1].text if number + 1 < len(tokens) else ""
        if _is(token, "information_schema") and following == ".":
            yield token.start, token.end + 1, "rs_info"
        elif _is(token, "pg_class") and following != ".":
            first = tokens[number - 2] if before[-1:] == ["."] else token
            yield first.start, token.end + 1, "rs_info.pg_class"


def _late_binding_columns(tokens: list[Token]) -> Iterator[Edit]:
    """pg_get_late_binding_view_cols() is a function whose record needs a list of columns; here a view."""
    for number, token in enumerate(tokens):
        if not _is(token, "pg_get_late_binding_view_cols"):
            continue
        alias, *listed = tokens[number + 3 :]
        end = next(place for place, each in enumerate(listed) if each.text == ")")
        names = [each.text for before, each in pairwise(listed[:end]) if before.text in ("(", ",")]
        yield token.start, listed[end].end + 1, f"rs.late_binding_cols as {alias.text}({', '.join(names)})"


def _storage(tokens: list[Token]) -> Iterator[Edit]:
    """How a table lies on the nodes has no counterpart here: DISTSTYLE, DISTKEY, SORTKEY, BACKUP NO."""
    if not tokens or not _is(tokens[0], "create"):
        return
    depth, number = 0, 0
    while number < len(tokens):
        token = tokens[number]
        depth += (token.text == "(") - (token.text == ")")
        last = number
        if depth == 0 and _is(token, "diststyle", "backup"):
            last = number + 1
        elif depth == 0 and _is(token, "distkey", "sortkey"):
            last = next(place for place in range(number, len(tokens)) if tokens[place].text == ")")
        elif depth != 0 or not _is(token, "compound", "interleaved"):
            number += 1
            continue
        yield token.start, tokens[last].end + 1, ""
        number = last + 1


def _grantees(tokens: list[Token]) -> Iterator[Edit]:
    """GRANT and REVOKE say ROLE and GROUP before a name (r_GRANT); here roles are all there is."""
    if not tokens or not _is(tokens[0], "grant", "revoke"):
        return
    for before, token in pairwise(tokens):
        if _is(token, "role", "group") and (_is(before, "to", "from", "grant", "revoke") or before.text == ","):
            yield token.start, token.end + 1, ""


def _tokens(sql: str) -> list[Token]:
    try:
        return sqlglot.tokenize(sql, read="redshift")
    except sqlglot.errors.TokenError as error:
        raise RefusedError(f"no SQL: {error}") from None


def _is(token: Token, *words: str) -> bool:
    return token.token_type not in (TokenType.IDENTIFIER, TokenType.STRING) and token.text.lower() in words


def _unquoted(name: str) -> str:
    return name.strip('"')


def literal(text: str) -> str:
    """The text as a string of SQL."""
    return "'" + text.replace("'", "''") + "'"
