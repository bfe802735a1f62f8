"""Encoders, decoders and bytes of streams with an end record."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from chunkwise.formats import FORMATS
from chunkwise.formats.contract import Encoder, EndRecordMarks
from chunkwise.formats.end_record import StreamEndDecoder

WITH = ["ndjson", "json-seq", "sse"]
with_record = pytest.mark.parametrize("name", WITH)
PROBLEM = {"title": "Internal Server Error", "status": 500, "detail": "the disk is full"}

COMPLETE_2 = {
    "ndjson": b' {"stream-end":{"status":"complete","items":2}}\n',
    "json-seq": b'\x1e {"stream-end":{"status":"complete","items":2}}\n',
    "sse": b'event: stream-end\ndata: {"status":"complete","items":2}\n\n',
}


def marks(name: str) -> EndRecordMarks:
    found = FORMATS[name].end_record
    assert found is not None
    return found


def new_encoder(name: str) -> Encoder:
    return FORMATS[name].encoder(stream_end=True)


def decoder(name: str, path: str = "", **options: Any) -> StreamEndDecoder:
    return StreamEndDecoder(FORMATS[name].decoder(path, **options), marks(name))


def maker(name: str, path: str = "", **options: Any) -> Callable[[], StreamEndDecoder]:
    return lambda: decoder(name, path, **options)


def sent(
    name: str, items: list[Any], *, problem: Mapping[str, Any] | None = None, record: bytes | None = None
) -> bytes:
    """Encode a stream that ends with a complete record, a failure with its problem, or the given record bytes."""
    encoder = new_encoder(name)
    data = encoder.start() + encoder.encode(items)
    if record is not None:
        return data + marks(name).before + record + marks(name).after
    return data + (encoder.finish() if problem is None else encoder.fail(problem))
