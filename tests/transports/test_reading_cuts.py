"""A stream that was cut off -> all its complete items, then an error."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession, ClientTimeout, web

import chunkwise
from chunkwise import StalledError, StreamError, TruncatedError
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS
from tests.transports.reading import CHUNKED, JSON, LAST, NDJSON, answered, read
from tests.transports.wire import answering, chunked, connected, head, serving, talking, url_of

CUTS: dict[str, tuple[bytes, ...]] = {
    "chunked, between chunks": (head(JSON, CHUNKED), chunked(b"[1,2"), chunked(b",3,")),
    "chunked, inside a chunk": (head(JSON, CHUNKED), chunked(b"[1,2"), b"ff\r\n,3,"),
    "chunked, inside a size": (head(JSON, CHUNKED), chunked(b"[1,2", b",3,") + b"1"),
    "chunked, before the last chunk": (head(JSON, CHUNKED), chunked(b"[1,2,3]")),
    "chunked, inside the last chunk": (head(JSON, CHUNKED), chunked(b"[1,2,3]") + b"0\r\n"),
    "content length": (head(JSON, "Content-Length: 100"), b"[1,2", b",3,"),
    "content length, at the last item": (head(JSON, "Content-Length: 8"), b"[1,2,3]"),
    "all at once, chunked": (head(JSON, CHUNKED) + chunked(b"[1,2,3,"),),
    "all at once, content length": (head(JSON, "Content-Length: 100") + b"[1,2,3,",),
    "until the close": (head(JSON, "Connection: close"), b"[1,2", b",3,"),
}


@each_row("cut", CUTS)
async def test_cut_is_reported_after_received_items(cut: str) -> None:
    came, error = await answered(*CUTS[cut])
    assert came == [1, 2, 3]
    assert isinstance(error, TruncatedError)
    assert error.items_seen == 3
    assert error.bytes_seen == 7
    assert error.format == "json"


@each_row("cut", CUTS)
async def test_late_reader_gets_items_before_a_cut(cut: str) -> None:
    closed = asyncio.Event()
    *pieces, last = CUTS[cut]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"".join([*pieces, last]))
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with talking(talk) as port, ClientSession() as session, session.get(url_of(port)) as response:
        await closed.wait()
        while response.content.exception() is None and not response.content.is_eof():
            await asyncio.sleep(0)  # until aiohttp has noticed the disconnect
        came, error = await read(chunkwise.items(response))
    assert came == [1, 2, 3]
    assert isinstance(error, TruncatedError)
    assert error.bytes_seen == 7


async def test_pausing_reader_gets_items_before_a_cut() -> None:
    rest = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(JSON, CHUNKED) + chunked(b"[1,2,"))
        await rest.wait()
        writer.write(chunked(b"".join(b"%d," % number for number in range(3, 60_000))))

    came: list[int] = []

    async def slowly(response: ClientResponse) -> None:
        async for item in chunkwise.items(response):
            came.append(item)
            rest.set()
            while response.content.exception() is None:
                await asyncio.sleep(0)

    async with talking(talk) as port, ClientSession() as session, session.get(url_of(port)) as response:
        with pytest.raises(TruncatedError, match="before the last chunk") as caught:
            await slowly(response)
    assert came == list(range(1, 60_000))
    assert caught.value.items_seen == 59_999


async def test_reset_is_reported_as_a_cut() -> None:
    linger = asyncio.Event()
    async with (
        answering(head(JSON, CHUNKED), chunked(b"[1,2,"), reset=True, linger=linger) as port,
        ClientSession() as session,
        session.get(url_of(port)) as response,
    ):
        stream = chunkwise.items(response)
        came = [await anext(aiter(stream))]
        linger.set()
        rest, error = await read(stream)
    assert came + rest == [1, 2]
    assert isinstance(error, TruncatedError)


async def test_sock_read_timeout_is_a_stall() -> None:
    linger = asyncio.Event()
    async with (
        answering(head(JSON, CHUNKED) + chunked(b"[1,2,"), linger=linger) as port,
        ClientSession(timeout=ClientTimeout(sock_read=0.2)) as session,
        session.get(url_of(port)) as response,
    ):
        came, error = await read(chunkwise.items(response))
        linger.set()
    assert (came, type(error)) == ([1, 2], StalledError)
    assert isinstance(error, TimeoutError)
    assert "sock_read" in str(error)


async def test_cut_upload_is_reported_after_its_items() -> None:
    outcome: asyncio.Future[tuple[list[Any], StreamError | None]] = asyncio.get_running_loop().create_future()
    asked = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.set()
        while request.content.exception() is None:
            await asyncio.sleep(0)  # read only after the disconnect
        outcome.set_result(await read(chunkwise.items(request)))
        return web.Response()

    async with serving(handler) as port:
        async with connected(port) as wire:
            wire.writer.write(b"POST /0 HTTP/1.1\r\nHost: x\r\n" + f"{JSON}\r\n{CHUNKED}\r\n\r\n".encode())
            wire.writer.write(chunked(b"[1,2", b",3,"))
            await asked.wait()
        async with asyncio.timeout(GUARD_SECONDS):
            came, error = await outcome
    assert (came, type(error)) == ([1, 2, 3], TruncatedError)


@pytest.mark.parametrize(
    ("framing", "proven"),
    [((CHUNKED,), True), (("Content-Length: 2",), True), (("Connection: close",), False)],
    ids=["chunked", "length", "close"],
)
async def test_last_line_without_end_needs_framing(framing: tuple[str, ...], proven: bool) -> None:
    body = chunked(b"12") + LAST if CHUNKED in framing else b"12"
    came, error = await answered(head(NDJSON, *framing), body)
    assert (came, error is None) == (([12], True) if proven else ([], False))


async def test_text_with_a_cut_end_is_reported() -> None:
    answer = (head(CHUNKED), chunked(b"abc"))
    async with answering(*answer) as port, ClientSession() as session, session.get(url_of(port)) as response:
        came, error = await read(chunkwise.text(response))
    assert ("".join(came), type(error)) == ("abc", TruncatedError)


async def take(response: ClientResponse, seen: list[str]) -> None:
    async for row in chunkwise.items(response):
        seen.append(row["a"])  # noqa: PERF401 - the items before an error are kept


async def test_cut_gzip_in_whole_framing_is_reported() -> None:
    rows = b"a\r\n" + b"".join(b"%d\r\n" % number for number in range(100_000, 101_000))
    engine = zlib.compressobj(wbits=31)
    cut = engine.compress(rows[:-4]) + engine.flush(zlib.Z_SYNC_FLUSH)

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=cut, headers={"Content-Encoding": "gzip", "Content-Type": "text/csv"})

    seen: list[str] = []
    async with serving(handler) as port, ClientSession() as session, session.get(url_of(port)) as response:
        with pytest.raises(chunkwise.TruncatedError):
            await take(response, seen)
    assert seen == [str(number) for number in range(100_000, 100_999)]


async def test_total_timeout_is_named_in_the_error() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(5)

    async def handler(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, source(), "ndjson")

    async with (
        serving(handler) as port,
        ClientSession(timeout=ClientTimeout(total=0.3)) as session,
        session.get(url_of(port)) as response,
    ):
        with pytest.raises(chunkwise.TruncatedError, match="the session's total timeout expired"):
            [item async for item in chunkwise.items(response)]
