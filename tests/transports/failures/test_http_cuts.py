"""Responses in every format, framing and coding, cut after each byte -> their items, then an error."""

from chunkwise import RemoteError, TruncatedError
from tests.each_row import each_row
from tests.needs import needs_linux
from tests.transports.failures.cut_responses import (
    BODIES,
    CLOSED,
    COMPLETE,
    FAILED,
    PROBLEM,
    Coding,
    Framing,
    answering,
    check_cut,
    cuts,
    every_framing,
    taken,
)


@each_row("reader", ["open_stream", "items"])
@every_framing
@each_row("format", BODIES)
async def test_every_detectable_cut_is_reported(format: str, framing: Framing, reader: str) -> None:
    body = BODIES[format]
    async with answering() as it:
        for cut in cuts(it, body, framing, ""):
            stream, came, error = await taken(it, reader)
            if cut.whole or cut.silent:
                end = "proven" if format == "json" else "framed" if framing in ("chunked", "length") else "unknown"
                assert (came, error, stream.end) == (cut.items, None, end), cut.name
                assert (stream.items_seen, stream.bytes_seen) == (len(came), cut.bytes), cut.name
            else:
                check_cut(stream, body, cut, came, error)


@every_framing
@each_row(
    ("format", "coding"),
    [*((name, "gzip") for name in BODIES), ("ndjson", "br"), ("ndjson", "zstd"), ("csv", "br"), ("csv", "zstd")],
)
async def test_every_cut_of_compressed_data_is_reported(format: str, coding: Coding, framing: Framing) -> None:
    body = BODIES[format]
    async with answering() as it:
        for cut in cuts(it, body, framing, coding):
            stream, came, error = await taken(it, "open_stream")
            if cut.whole:
                # If the body ends with the connection, another gzip member or zstd frame could be missing.
                framed = framing in ("chunked", "length") or coding == "br"
                end = "proven" if format == "json" else "framed" if framed else "unknown"
                assert (came, error, stream.end) == (body.items, None, end), cut.name
                assert (stream.items_seen, stream.bytes_seen) == (len(came), len(body.data)), cut.name
            else:
                check_cut(stream, body, cut, came, error)


@every_framing
@each_row("coding", ["", "gzip"])
@each_row("format", COMPLETE)
async def test_every_cut_in_an_end_record_is_reported(format: str, coding: Coding, framing: Framing) -> None:
    body = COMPLETE[format]
    async with answering() as it:
        for cut in cuts(it, body, framing, coding, "Preference-Applied: stream-end"):
            stream, came, error = await taken(it, "open_stream")
            if cut.whole:
                assert (came, error, stream.end) == (body.items, None, "proven"), cut.name
            else:
                check_cut(stream, body, cut, came, error)


@every_framing
@each_row("coding", ["", "gzip"])
@each_row("format", FAILED)
async def test_failure_record_raises_at_once(format: str, coding: Coding, framing: Framing) -> None:
    body = FAILED[format]
    async with answering() as it:
        for cut in cuts(it, body, framing, coding, "Preference-Applied: stream-end"):
            stream, came, error = await taken(it, "open_stream")
            if cut.bytes < len(body.data):
                check_cut(stream, body, cut, came, error)
            else:
                assert came == body.items, cut.name
                assert isinstance(error, RemoteError), f"{cut.name}: {error!r}"
                assert (error.problem, error.status, error.item_index) == (PROBLEM, 500, len(came)), cut.name
                assert stream.end is None, cut.name


@needs_linux
@each_row("framing", ["chunked", "length"])
@each_row("format", BODIES)
async def test_reset_loses_no_received_items(format: str, framing: Framing) -> None:
    body = BODIES[format]
    async with answering(reset=True) as it:
        for cut in cuts(it, body, framing, ""):
            stream, came, error = await taken(it, "open_stream")
            if cut.whole:
                assert (came, error) == (body.items, None), cut.name
            else:
                check_cut(stream, body, cut, came, error)


@needs_linux
@each_row("framing", CLOSED)
@each_row(("format", "reader"), [*((name, "open_stream") for name in BODIES), ("ndjson", "items")])
async def test_reset_never_ends_a_stream_normally(format: str, framing: Framing, reader: str) -> None:
    body = BODIES[format]
    async with answering(reset=True) as it:
        for cut in cuts(it, body, framing, ""):
            stream, came, error = await taken(it, reader)
            assert came in [body.items_after(cut.bytes, closed=closed) for closed in (True, False)], cut.name
            if not (body.proves_end and cut.whole):
                assert type(error) is TruncatedError, f"{cut.name}: {error!r}"
                assert (error.items_seen, error.bytes_seen, stream.end) == (len(came), cut.bytes, None), cut.name


@each_row("framing", ["chunked", "length"])
@each_row("format", BODIES)
async def test_framing_shows_cuts_of_decompressed_bodies(format: str, framing: Framing) -> None:
    body = BODIES[format]
    async with answering() as it:
        for cut in cuts(it, body, framing, "gzip"):
            stream, came, error = await taken(it, "items")
            if cut.whole:
                assert (came, error, stream.end) == (body.items, None, "proven" if format == "json" else "unknown")
            else:
                check_cut(stream, body, cut, came, error)
