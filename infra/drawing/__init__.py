"""Render the drawing of the platform, architecture.html beside this file, to pictures in docs/images.

Fonts differ from machine to machine, so pixels prove nothing. Each picture carries the digest of the page that it was
made from instead: whoever edits the page without rendering it is found out by a test.
"""

import hashlib
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent.parent
SOURCE = Path(__file__).with_name("architecture.html")
FOLDER = ROOT / "docs/images"
PICTURES = {"en": "architecture.png", "pt": "arquitetura.png"}
WIDTH = 1000  # CSS pixels, about what GitHub shows a document in; the picture has twice as many
COMMANDS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")
KEYWORD = b"Source SHA-256\0"
HEADER = 8 + 4 + 4 + 13 + 4  # of a PNG: signature, then the chunk IHDR with length, type and checksum


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium or Chrome. Raises FileNotFoundError where there is none."""
    command = next(filter(None, map(shutil.which, COMMANDS)), None)
    if command is None:
        raise FileNotFoundError("no Chromium on the PATH: run tests/install_chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=command, args=QUIET)


@contextmanager
def opened(browser: Browser, language: str, source: Path = SOURCE) -> Iterator[Page]:
    """The drawing in a language (a key of PICTURES), with its arrows drawn."""
    with browser.new_page(viewport={"width": WIDTH, "height": 100}, device_scale_factor=2) as page:
        page.goto(f"{source.as_uri()}#{language}")
        yield page


def render(browser: Browser, folder: Path = FOLDER, source: Path = SOURCE) -> Iterator[Path]:
    """Write the picture of each language into the folder; yields their paths."""
    digest = digest_of(source)
    for language, name in PICTURES.items():
        with opened(browser, language, source) as page:
            picture = page.screenshot(full_page=True)
        path = folder / name
        path.write_bytes(stamped(picture, digest))
        yield path


def digest_of(source: Path = SOURCE) -> str:
    return hashlib.sha256(source.read_bytes()).hexdigest()


def stamped(picture: bytes, digest: str) -> bytes:
    """The PNG with a chunk tEXt after its header (PNG specification, "tEXt")."""
    text = b"tEXt" + KEYWORD + digest.encode()
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return picture[:HEADER] + chunk + picture[HEADER:]


def stamp(picture: bytes) -> str:
    """The digest of the page that a picture was made from; empty where it says none."""
    length, kind = struct.unpack_from(">I4s", picture, HEADER)
    text = picture[HEADER + 8 : HEADER + 8 + length]
    return text.removeprefix(KEYWORD).decode() if kind == b"tEXt" and text.startswith(KEYWORD) else ""
