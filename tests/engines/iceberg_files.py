"""All the text that an Iceberg table's files hold: data, statistics, manifests, lists of manifests and metadata."""

import io
import re
import zlib
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

BOUND = 16  # characters of a long text that a manifest holds as a column's bound
AVRO = b"Obj\x01"
PUFFIN = b"PFA1"
ZSTD_FRAME = b"\x28\xb5\x2f\xfd"


def holding(files: Mapping[str, bytes], values: Iterable[str]) -> dict[str, set[str]]:
    """The files in which a value stands, and which; in manifests also cut to a bound's length."""
    wanted = {value: value.encode() for value in values}
    found = {}
    for name, content in files.items():
        text = decoded(content)
        cut = BOUND - 1 if content.startswith(AVRO) else None  # an upper bound's last character is raised by one
        hits = {value for value, encoded in wanted.items() if (encoded[:cut] if cut else encoded) in text}
        if hits:
            found[name] = hits
    return found


def decoded(content: bytes) -> bytes:
    """A file's bytes as they stand, and behind them those that it holds compressed."""
    if content.startswith(b"PAR1"):
        return content + _parquet(content)
    if content.startswith(AVRO):
        return content + _avro(content)
    if content.startswith(PUFFIN):
        frames = [match.start() for match in re.finditer(re.escape(ZSTD_FRAME), content)]
        return content + b"".join(
            zstandard.ZstdDecompressor().decompressobj().decompress(content[at:]) for at in frames
        )
    if content[:2] == b"\x1f\x8b":
        return zlib.decompress(content, 31)
    return content


def _parquet(content: bytes) -> bytes:
    texts: list[str] = []

    def collect(value: object) -> None:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list):
            for item in value:
                collect(item)

    table = pq.read_table(pa.BufferReader(content))
    for column in table.columns:
        collect(column.to_pylist())
    return "\n".join(texts).encode()


def _avro(content: bytes) -> bytes:
    """The blocks of an Avro object container file (its specification, "Object Container Files"), unpacked."""
    stream = io.BytesIO(content[len(AVRO) :])
    metadata: dict[str, bytes] = {}
    while count := _long(stream):
        if count < 0:
            _long(stream)  # the block's size
        for _ in range(abs(count)):
            key = stream.read(_long(stream)).decode()
            metadata[key] = stream.read(_long(stream))
    stream.read(16)  # the marker between blocks
    codec, blocks = metadata.get("avro.codec", b"null"), []
    assert codec in (b"null", b"deflate"), codec
    while stream.tell() < len(content) - len(AVRO):
        _long(stream)  # how many records
        block = stream.read(_long(stream))
        blocks.append(zlib.decompress(block, -15) if codec == b"deflate" else block)
        stream.read(16)
    return b"".join(blocks)


def _long(stream: io.BytesIO) -> int:
    """Avro's number: zigzag, in groups of seven bits."""
    shift = number = 0
    while True:
        byte = stream.read(1)[0]
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1)
