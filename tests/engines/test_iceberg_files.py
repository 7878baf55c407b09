"""What looks for erased values finds them in each kind of file that an Iceberg table has, packed or not."""

import gzip
import io
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests.engines import iceberg_files

VALUE = "somebody.whose.address.is.long@example.com"


def long(number: int) -> bytes:
    """Avro's number, zigzag; for what is not negative."""
    number, written = number << 1, b""
    while number > 0x7F:
        written += bytes([number & 0x7F | 0x80])
        number >>= 7
    return written + bytes([number])


def avro(content: bytes, codec: str) -> bytes:
    """A container of one block."""
    block = zlib.compress(content)[2:-4] if codec == "deflate" else content
    name, marker = codec.encode(), b"m" * 16
    header = long(1) + long(10) + b"avro.codec" + long(len(name)) + name + long(0) + marker
    return b"Obj\x01" + header + long(1) + long(len(block)) + block + marker


def parquet(values: list[object]) -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.table({"a": values}), written, compression="zstd", write_statistics=False)
    return written.getvalue()


NOISE = b"0123456789" * 50


@pytest.mark.parametrize(
    "content",
    [
        parquet(["x" * 99, VALUE]),
        parquet([["x"], [VALUE, None]]),
        avro(NOISE + VALUE.encode()[:16] + NOISE, "deflate"),
        avro(VALUE.encode()[:15] + b"n", "null"),  # an upper bound: cut, its last character raised
        b"PFA1" + zstandard.compress(NOISE + VALUE.encode()) + b"PFA1",
        gzip.compress(NOISE + VALUE.encode()),
        b'{"metadata": "' + VALUE.encode() + b'"}',
    ],
    ids=["parquet", "parquet of lists", "avro, deflated", "avro, an upper bound", "puffin", "gzip", "json"],
)
def test_a_value_is_found(content: bytes) -> None:
    assert iceberg_files.holding({"file": content, "other": b"{}"}, [VALUE, "nobody@example.com"]) == {"file": {VALUE}}
