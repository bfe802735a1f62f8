"""Every combination of reader, item count, ending and pace over WebSockets: both sides see the same end.

A source ends after ``count`` items: by an exception, an HTTP exception, a cancellation or a return.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import ClientSession, WSServerHandshakeError, web

import chunkwise
from chunkwise import RemoteError, StreamError, TruncatedError, body, items, open_stream, respond
from chunkwise.formats.messages import SUBPROTOCOL
from tests.each_row import each_row
from tests.flow.producing import GUARD_SECONDS
from tests.transports.reading import read
from tests.transports.watched import watched
from tests.transports.websocket_peer import CLOSE, TEXT, Frame, Peer, complete, opened, server
from tests.transports.wire import Handler, serving

ROWS = [{"n": index, "text": f'Zoë, "{index}"\nand on'} for index in range(5)]
TEXTS = [f"Zoë, {index}" for index in range(5)]
SECRET = LookupError("secret")

TITLES = {"exception": "Internal Server Error", "http exception": "Conflict", "cancelled": "Internal Server Error"}
STATUSES = {"exception": 500, "http exception": 409, "cancelled": 500}
COUNTS = [0, 1, 3, len(ROWS)]

every_count = each_row("count", COUNTS, ids=lambda count: f"after {count}")
every_failure = each_row("ending", TITLES)
every_ending = each_row("ending", [*TITLES, "returns"])
every_ending_of_a_client = each_row("ending", ["exception", "http exception", "returns"])
every_pace = each_row("hot", [True, False], ids=["hot", "in turns"])
of_both_kinds = each_row("plain", [False, True], ids=["items", "text"])
in_both_framings = each_row("subprotocol", ["", SUBPROTOCOL], ids=["a message each", "batches"])


class Source:
    """A source that yields items, then ends as a test says.

    Attributes:
        closed: how often the source was closed.
    """

    def __init__(self, count: int, ending: str, *, plain: bool = False, hot: bool = True) -> None:
        self.closed = 0
        self.given: list[Any] = (TEXTS if plain else ROWS)[:count]
        self._ending = ending
        self._hot = hot

    async def items_after(self, request: web.Request) -> AsyncIterator[Any]:
        """Like `items`, but wait for the response to the handshake first."""
        while not request.writer.output_size:
            await asyncio.sleep(0.001)
        async for each in self.items():
            yield each

    async def items(self) -> AsyncIterator[Any]:
        try:
            for each in self.given:
                yield each
                if not self._hot:
                    await asyncio.sleep(0.001)
            if self._ending == "exception":
                raise SECRET
            if self._ending == "http exception":
                raise web.HTTPConflict(text="taken twice")
            if self._ending == "cancelled":
                other = asyncio.ensure_future(asyncio.sleep(GUARD_SECONDS))
                asyncio.get_running_loop().call_soon(other.cancel)
                await other
        finally:
            self.closed += 1


# ---- sources of servers


def answering(source: Source, *, plain: bool) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        given = source.items_after(request)
        return await respond(request, given, "text" if plain else None, commit_after_seconds=0)

    return handler


async def taken(port: int, reader: str, *, plain: bool) -> tuple[list[Any], StreamError | None, str | None]:
    """Read a stream to its end; return its items, the error after them, and the end proof."""
    url, asked = f"ws://127.0.0.1:{port}/0", "text" if plain else None
    async with ClientSession() as session:
        if reader == "open_stream":
            async with open_stream(session, url, format=asked) as stream:
                return *await read(stream), stream.end
        protocols = [SUBPROTOCOL] if reader == "items of batches" else []
        async with session.ws_connect(url, protocols=protocols) as websocket:
            inbound = items(websocket, format=asked)
            return *await read(inbound), inbound.end


@each_row("reader", ["open_stream", "items", "items of batches"])
@of_both_kinds
@every_count
@every_ending
@every_pace
async def test_failed_server_source_is_never_complete(
    reader: str, plain: bool, count: int, ending: str, hot: bool
) -> None:
    source = Source(count, ending, plain=plain, hot=hot)
    async with watched(answering(source, plain=plain)) as server:
        came, error, end = await taken(server.port, reader, plain=plain)
        outcome = await server.outcome()
    assert came == source.given
    assert source.closed == 1
    assert (outcome.items, outcome.status) == (count, 101)
    if ending == "returns":
        assert (error, end, outcome.end) == (None, "proven", "complete")
        return
    assert isinstance(error, RemoteError), repr(error)
    assert (error.status, error.problem) == (500, {"title": TITLES[ending], "status": 500})
    assert error.item_index in (None, count)
    assert (end, outcome.end) == (None, "failed")


@in_both_framings
@of_both_kinds
@every_count
@every_ending
@every_pace
async def test_failure_sends_one_close_and_no_more(
    subprotocol: str, plain: bool, count: int, ending: str, hot: bool
) -> None:
    source = Source(count, ending, plain=plain, hot=hot)
    async with (
        serving(answering(source, plain=plain)) as port,
        opened(port, subprotocol=subprotocol, reads_ahead=True) as peer,
    ):
        *messages, last = await peer.hear_all()
    assert peer.ended == "closed"
    assert all(message.opcode == TEXT for message in messages)
    if not subprotocol:
        assert len(messages) == count
    if ending == "returns":
        assert (last.code, last.reason) == (1000, f"complete; items={count}")
    else:
        assert (last.code, last.reason) == (1011, TITLES[ending])


@pytest.mark.parametrize("reader", ["open_stream", "items"])
@every_failure
async def test_early_failure_refuses_the_handshake(reader: str, ending: str) -> None:
    source = Source(0, ending)

    async def refuses(request: web.Request) -> web.StreamResponse:
        return await respond(request, source.items(), commit_after_seconds=GUARD_SECONDS)

    async with serving(refuses) as port:
        with pytest.raises((RemoteError, WSServerHandshakeError)) as raised:
            await taken(port, reader, plain=False)
    assert getattr(raised.value, "status", None) == STATUSES[ending]
    assert source.closed == 1


# ---- sources of clients


class Reading:
    """A server that reads the client's messages inside its source, and records them.

    Attributes:
        came: the items received.
        error: the error after the items.
        tells: whether the source then fails with this error.
    """

    def __init__(self, *, plain: bool = False, tells: bool = False) -> None:
        self.came: list[Any] = []
        self.error: BaseException | None = None
        self.end: str | None = None
        self.over = asyncio.Event()
        self._plain = plain
        self._tells = tells

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return await respond(request, self._source(request), "text" if self._plain else None)

    async def _source(self, request: web.Request) -> AsyncIterator[str]:
        stream = items(request, format="text" if self._plain else None)
        try:
            async for item in stream:
                self.came.append(item)
                yield "took one"
            self.end = stream.end
        except BaseException as error:
            self.error = error
            if self._tells or not isinstance(error, StreamError):
                raise
        finally:
            self.over.set()


def raised_by(ending: str) -> type[Exception]:
    return {"exception": LookupError, "http exception": web.HTTPConflict, "cancelled": StreamError}[ending]


@each_row("tells", [False, True], ids=["the server goes on", "the server fails with it"])
@of_both_kinds
@every_count
@every_ending_of_a_client
@every_pace
async def test_failed_client_source_is_never_complete(
    tells: bool, plain: bool, count: int, ending: str, hot: bool
) -> None:
    source, reading = Source(count, ending, plain=plain, hot=hot), Reading(plain=plain, tells=tells)
    error: Exception | None = None
    came: list[Any] = []
    asked = "text" if plain else None
    async with watched(reading.handle) as server:
        async with ClientSession() as session, asyncio.timeout(GUARD_SECONDS):
            url = f"ws://127.0.0.1:{server.port}/0"
            upload = body(source.items(), "text" if plain else "ndjson")
            try:
                async with open_stream(session, url, data=upload, format=asked) as stream:
                    async for item in stream:
                        came.append(item)  # noqa: PERF401 - the items before an error are kept
            except Exception as raised:
                error = raised
            await reading.over.wait()
        outcome = await server.outcome()
    assert reading.came == source.given
    assert source.closed == 1
    if ending == "returns":
        assert (error, reading.error, reading.end, stream.end) == (None, None, "proven", "proven")
        assert (len(came), outcome.end) == (count, "complete")
        return
    assert type(error) is raised_by(ending), repr(error)
    assert ending != "exception" or error is SECRET
    assert isinstance(reading.error, (RemoteError, TruncatedError)), repr(reading.error)
    assert reading.end is None
    # When a hot source fails, the client may have left already.
    assert outcome.end in (
        ("failed", "client_gone") if tells and hot and count else ("failed",) if tells else ("client_gone",)
    )


@in_both_framings
@every_count
@every_ending_of_a_client
async def test_client_close_shows_how_its_source_ended(subprotocol: str, count: int, ending: str) -> None:
    source = Source(count, ending)
    heard: list[Frame] = []

    async def talk(peer: Peer) -> None:
        while (each := await peer.hear()) is not None:
            heard.append(each)
            if each.opcode == CLOSE or b"stream-end" in each.payload:
                await peer.send(complete(0))

    async with (
        server(talk, subprotocol=subprotocol) as url,
        ClientSession() as session,
        asyncio.timeout(GUARD_SECONDS),
    ):
        with suppress(LookupError, web.HTTPConflict, StreamError):
            async with open_stream(session, url, data=body(source.items(), "ndjson")) as stream:
                async for _ in stream:
                    raise AssertionError("no item was sent")
    *messages, last = heard
    assert last.opcode == CLOSE
    assert "secret" not in str(heard)
    sent = b"\n".join(message.payload.removesuffix(b"\n") for message in messages).decode()
    lines = sent.split("\n") if sent else []
    if ending == "returns":
        assert lines.pop() == f' {{"stream-end":{{"status":"complete","items":{count}}}}}'
        assert last.code == 1000
    else:
        assert last.reason != f"complete; items={count}"
    assert len(lines) == count
    assert chunkwise.FORMATS["ndjson"].decoder().feed("\n".join([*lines, ""]).encode()) == source.given
