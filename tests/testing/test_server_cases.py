"""testing/server_cases.py: chunkwise passes, and each case fails for a server that is broken on purpose."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from chunkwise.testing import ConformanceCase, FaultProxy, server_cases
from tests.flow.producing import NAMES, row
from tests.tables import check_rows_async
from tests.transports.wire import chunked, head, serving, streams, talking, url_of

PATIENCE_SECONDS = 0.6  # a short time, for servers that leave connections open
LAST = b"0\r\n\r\n"
SLOW_SECONDS = 0.4  # the cases get half of this time as slow_seconds, and require half of that


async def whole() -> AsyncIterator[dict[str, str]]:
    for index in range(1000):
        yield row(index)


async def failing() -> AsyncIterator[dict[str, str]]:
    for index in range(3):
        yield row(index)
    await asyncio.sleep(0)
    raise ValueError


async def slow() -> AsyncIterator[dict[str, str]]:
    yield row(0)
    await asyncio.sleep(SLOW_SECONDS)
    yield row(1)


@pytest.mark.parametrize("name", NAMES)
async def test_chunkwise_server_keeps_its_promises(name: str) -> None:
    async with serving(*(streams(source, name) for source in (whole, failing, slow))) as port:
        urls = [url_of(port, f"/{index}") for index in range(3)]
        cases = server_cases(urls[0], urls[1], url_slow=urls[2], slow_seconds=SLOW_SECONDS / 2)
        await asyncio.gather(*(case.run() for case in cases))


async def test_chunkwise_server_passes_through_proxy() -> None:
    async with (
        serving(*(streams(source, "ndjson") for source in (whole, failing))) as port,
        FaultProxy("127.0.0.1", port) as proxy,
    ):
        for case in server_cases(proxy.url("/0"), proxy.url("/1")):
            await case.run()


def reset(writer: asyncio.StreamWriter) -> None:
    """Reset the connection; `abort` alone would reset it only if some received bytes were not read."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Server:
    """A correct custom server that reads and writes plain bytes. The broken servers inherit from it."""

    items = (b"one\n", b"two\n")
    patience_seconds = 10.0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, target, version = asked.split("\r\n")[0].split(" ")
            again = version == "HTTP/1.1" and "Connection: close" not in asked
            if method == "HEAD":
                writer.write(self.head(version) + self.after_head())
            elif target == "/failing":
                again = await self.fail(writer, version)
            else:
                await self.stream(writer, version, pause=SLOW_SECONDS * (target == "/slow"))
            await writer.drain()
            if not again:
                return

    def head(self, version: str) -> bytes:
        if version == "HTTP/1.1":
            return head("Transfer-Encoding: chunked")
        return head().replace(b"1.1", b"1.0")

    def piece(self, item: bytes, version: str) -> bytes:
        return chunked(item) if version == "HTTP/1.1" else item

    def after_head(self) -> bytes:
        return b""

    async def stream(self, writer: asyncio.StreamWriter, version: str, *, pause: float = 0) -> None:
        writer.write(self.head(version))
        for item in self.items:
            writer.write(self.piece(item, version))
            await asyncio.sleep(pause)
        writer.write(self.end(version))

    def end(self, version: str) -> bytes:
        return LAST if version == "HTTP/1.1" else b""

    async def fail(self, writer: asyncio.StreamWriter, version: str) -> bool:
        """Return whether the connection stays open."""
        writer.write(self.head(version) + self.piece(self.items[0], version))
        await asyncio.sleep(0.01)
        if version == "HTTP/1.0":
            reset(writer)
        return False


class WithContentLength(Server):
    """A correct server whose responses have a Content-Length instead of chunks."""

    def head(self, version: str) -> bytes:
        return head("Content-Length: 8").replace(b"1.1", version[-3:].encode())

    def piece(self, item: bytes, version: str) -> bytes:
        return item

    def end(self, version: str) -> bytes:
        return b""

    async def fail(self, writer: asyncio.StreamWriter, version: str) -> bool:
        writer.write(self.head(version) + self.piece(self.items[0], version))
        return False


class ReachesItsLength(WithContentLength):
    async def fail(self, writer: asyncio.StreamWriter, version: str) -> bool:
        writer.write(self.head(version) + b"one\nerr\n")
        return False


class MissesItsLength(WithContentLength):
    def head(self, version: str) -> bytes:
        return super().head(version).replace(b"8", b"9")


class SendsLastChunkAfterFailure(Server):
    async def fail(self, writer: asyncio.StreamWriter, version: str) -> bool:
        await self.stream(writer, version)
        return False


class ContinuesAfterFailure(Server):
    """Sends the last chunk after a failure, and then responds to the next request."""

    patience_seconds = PATIENCE_SECONDS

    async def fail(self, writer: asyncio.StreamWriter, version: str) -> bool:
        await self.stream(writer, version)
        return version == "HTTP/1.1"


class SendsTwoStatusLines(Server):
    async def fail(self, writer: asyncio.StreamWriter, version: str) -> bool:
        writer.write(self.head(version) + self.piece(self.items[0], version))
        writer.write(head("Content-Length: 0", status="500 Internal Server Error"))
        return False


class SendsStatusLineInAChunk(Server):
    async def fail(self, writer: asyncio.StreamWriter, version: str) -> bool:
        writer.write(self.head(version) + self.piece(b"one\nHTTP/1.1 500 Oops\r\n\r\n", version))
        return False


class ClosesCleanlyUnderHttp10(Server):
    async def fail(self, writer: asyncio.StreamWriter, version: str) -> bool:
        writer.write(self.head(version) + self.piece(self.items[0], version))
        return False


class StaysOpenAfterFailure(Server):
    patience_seconds = PATIENCE_SECONDS

    async def fail(self, writer: asyncio.StreamWriter, version: str) -> bool:
        if version == "HTTP/1.0":
            return await super().fail(writer, version)
        writer.write(self.head(version) + self.piece(self.items[0], version))
        return True


class RespondsWith500(Server):
    async def fail(self, writer: asyncio.StreamWriter, version: str) -> bool:
        writer.write(head("Content-Length: 0", status="500 Internal Server Error"))
        return False


class HasNoFraming(Server):
    def head(self, version: str) -> bytes:
        return head()

    def piece(self, item: bytes, version: str) -> bytes:
        return item

    def end(self, version: str) -> bytes:
        return b""


class ForgetsTheLastChunk(Server):
    def end(self, version: str) -> bytes:
        return b""


class WritesAfterTheEnd(Server):
    def end(self, version: str) -> bytes:
        return super().end(version) * 2


class ResetsCompleteResponse(Server):
    async def stream(self, writer: asyncio.StreamWriter, version: str, *, pause: float = 0) -> None:
        await super().stream(writer, version, pause=pause)
        await asyncio.sleep(0.01)
        reset(writer)


class WritesChunksUnderHttp10(Server):
    def head(self, version: str) -> bytes:
        return super().head("HTTP/1.1")

    def piece(self, item: bytes, version: str) -> bytes:
        return chunked(item)

    def end(self, version: str) -> bytes:
        return LAST


class HasTwoFramings(Server):
    def head(self, version: str) -> bytes:
        return head("Transfer-Encoding: chunked", "Content-Length: 8")


class SendsBodyToHead(Server):
    def after_head(self) -> bytes:
        return LAST


class HoldsItemsBack(Server):
    async def stream(self, writer: asyncio.StreamWriter, version: str, *, pause: float = 0) -> None:
        await asyncio.sleep(pause)
        await super().stream(writer, version)


def cases_for(port: int, patience_seconds: float) -> list[ConformanceCase]:
    whole, failing, slow = (url_of(port, path) for path in ("/whole", "/failing", "/slow"))
    return server_cases(whole, failing, url_slow=slow, slow_seconds=SLOW_SECONDS / 2, patience_seconds=patience_seconds)


async def verdicts(make: type[Server], *names: str) -> dict[str, str]:
    """Return the names of the cases that a server fails, with their messages. Without names, all cases are run."""

    async def verdict(case: ConformanceCase) -> tuple[str, str]:
        try:
            await case.run()
        except AssertionError as error:
            return case.name, str(error)
        return case.name, ""

    async with talking(make().talk) as port:
        chosen = [case for case in cases_for(port, make.patience_seconds) if not names or case.name in names]
        judged = await asyncio.gather(*map(verdict, chosen))
    return {name: said for name, said in judged if said}


@pytest.mark.parametrize("make", [Server, WithContentLength])
async def test_correct_custom_server_passes(make: type[Server]) -> None:
    assert await verdicts(make) == {}


BROKEN: list[tuple[type[Server], str, str]] = [
    (HasNoFraming, "complete-response-ends-with-last-chunk-or-length", "a cut would look complete"),
    (ForgetsTheLastChunk, "complete-response-ends-with-last-chunk-or-length", "the last chunk is missing"),
    (MissesItsLength, "complete-response-ends-with-last-chunk-or-length", "fewer than its Content-Length"),
    (WritesAfterTheEnd, "complete-response-ends-with-last-chunk-or-length", "after the end"),
    (ResetsCompleteResponse, "complete-response-ends-with-last-chunk-or-length", "reset"),
    (HasTwoFramings, "complete-response-ends-with-last-chunk-or-length", "RFC 9112"),
    (ResetsCompleteResponse, "complete-http-1-0-response-ends-with-a-close", "reset"),
    (WritesChunksUnderHttp10, "complete-http-1-0-response-ends-with-a-close", "in chunks"),
    (SendsBodyToHead, "head-response-has-no-body", "body of 5 bytes"),
    (SendsLastChunkAfterFailure, "failed-response-has-no-end", "the last chunk was sent after a failure"),
    (ReachesItsLength, "failed-response-has-no-end", "Content-Length was reached"),
    (HasNoFraming, "failed-response-has-no-end", "closed cleanly"),
    (SendsTwoStatusLines, "failed-response-has-no-end", "expected the size of a chunk"),
    (RespondsWith500, "failed-response-has-no-end", "got status 500"),
    (SendsTwoStatusLines, "failed-response-has-one-status-line", "2 status lines"),
    (SendsStatusLineInAChunk, "failed-response-has-one-status-line", "2 status lines"),
    (StaysOpenAfterFailure, "failed-response-closes-its-connection", "still open"),
    (ContinuesAfterFailure, "failed-response-closes-its-connection", "still open"),
    (ContinuesAfterFailure, "request-after-a-failed-response-gets-none", "got a response too"),
    (StaysOpenAfterFailure, "request-after-a-failed-response-gets-none", "got a response too"),
    (ClosesCleanlyUnderHttp10, "failed-http-1-0-response-is-reset", "closed cleanly, expected a reset"),
    (HoldsItemsBack, "first-item-is-sent-before-the-last-is-made", "held back"),
]


async def test_broken_server_fails_the_expected_case() -> None:
    async def check(make: type[Server], name: str, text: str) -> None:
        said = await verdicts(make, name)
        assert text in said[name]

    await check_rows_async({f"{row[0].__name__}: {row[1]}": row for row in BROKEN}, check)


def test_every_case_fails_for_some_server() -> None:
    assert {name for _, name, _ in BROKEN} == {case.name for case in cases_for(1, 1)}


async def test_silent_server_fails_every_case() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def run(case: ConformanceCase) -> None:
        with pytest.raises(AssertionError):
            await case.run()

    async with talking(talk) as port:
        await asyncio.gather(*map(run, cases_for(port, PATIENCE_SECONDS)))


async def test_given_headers_and_query_are_sent() -> None:
    asked: list[bytes] = []
    server = Server()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(server.head("HTTP/1.1") + LAST)
        await writer.drain()

    async with talking(talk) as port:
        url = url_of(port, "/?n=1")
        case = server_cases(url, url, headers={"Accept": "text/csv"})[0]
        await case.run()
    (request,) = asked
    assert request.startswith(b"GET /?n=1 HTTP/1.1\r\n")
    assert b"\r\nAccept: text/csv\r\n" in request


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "/path", "http://"])
def test_only_http_urls_are_accepted(url: str) -> None:
    with pytest.raises(ValueError, match="http://"):
        server_cases(url, "http://127.0.0.1/")


async def test_slow_case_needs_a_slow_url() -> None:
    names = [case.name for case in server_cases("http://127.0.0.1:1/", "http://127.0.0.1:1/")]
    assert len(names) == 8
    assert not [name for name in names if "first-item" in name]
