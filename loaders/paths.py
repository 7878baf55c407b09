"""Where settings point to: a folder is an absolute path, and a relative one begins at the project's root.

Every start of Python in the project's environment imports this module, so it imports next to nothing.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEFAULTS = {"LAKE_URI": "lake", "VAULT_URI": "vault", "DOCS_URI": "docs-site", "SANDBOX_HOME": ".sandbox"}
NAMES = (*DEFAULTS, "DUCKDB_PATH", "SANDBOX_CACHE")  # the settings that may name a folder or a file
HOME_FOLDER = re.compile(r"^(\$HOME|\$\{HOME\})(?=/|$)")
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def absolute(text: str) -> str:
    """The absolute path of a folder or file, or a URI without its last slash. An absolute path stays as it is.

    `~`, `~user` and `$HOME` at the beginning are home folders. Raises ValueError, which says what is wrong.
    """
    if "://" in text:
        return text.rstrip("/")
    if SCHEME.match(text):
        raise ValueError("looks like a URI without its two slashes: give s3://bucket/prefix, or a folder as ./name")
    try:
        path = str((ROOT / Path(HOME_FOLDER.sub("~", text, count=1)).expanduser()).resolve())
    except RuntimeError as error:  # no such user, or links that lead round in a circle
        raise ValueError(f"leads nowhere ({error}): give an absolute path (a folder called ~ is ./~)") from None
    if "\\" in path:
        raise ValueError(f"is the path {path}, and DuckDB cannot read below a folder whose name has a backslash")
    return path
