"""Files and folders that only their owner can read: they hold passwords and keys, or logs that may print them."""

import os
from pathlib import Path
from typing import TextIO


def folder(path: Path) -> Path:
    """Make the folder, or close the one that is there to all other users."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def create(path: Path) -> TextIO:
    """Open a file to write, empty and closed to all other users from its first byte on."""
    file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w")
    os.fchmod(file.fileno(), 0o600)  # it may have been there, open to others
    return file


def write(path: Path, text: str) -> None:
    """Write the file whole or not at all."""
    draft = path.with_name(f"{path.name}.new")
    with create(draft) as file:
        file.write(text)
    draft.replace(path)
