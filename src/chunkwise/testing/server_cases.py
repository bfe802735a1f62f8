"""Test cases for a server that streams. They request its URLs, and check the raw bytes that it sends.

The cases work with any server and format. They use plain sockets, because HTTP clients do not show all of these bytes,
nor how the connection ended.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from chunkwise.testing.conformance import ConformanceCase, cases_of, shown
from chunkwise.testing.responses import Framing, RawResponse, ask, framing_of, request

_CLOSE = {"Connection": "close"}
_KEEP = {"Connection": "keep-alive"}


def server_cases(
    url_complete: str,
    url_failing: str,
    *,
    url_slow: str | None = None,
    slow_seconds: float = 0.5,
    headers: Mapping[str, str] | None = None,
    patience_seconds: float = 10.0,
) -> list[ConformanceCase]:
    """Return one case for each promise that a server makes about its streams.

    The items must not contain text that looks like a status line (``HTTP/1.1 200 OK``), because the cases count the
    status lines that a server sends.

    Args:
        url_complete: a URL whose stream completes.
        url_failing: a URL whose stream's source fails after its first items.
        url_slow: a URL whose stream's source waits between its first and its last item. Without this URL, no case
            checks that items are sent while the source waits.
        slow_seconds: how long the source of ``url_slow`` waits.
        headers: the headers of each request, such as Accept.
        patience_seconds: how long to wait for the end of a response.

    Raises:
        ValueError: a URL does not begin with ``http://``.
    """
    for url in filter(None, (url_complete, url_failing, url_slow)):
        if urlsplit(url).scheme != "http" or not urlsplit(url).hostname:
            raise ValueError(f"expected an http:// URL, got {url!r}: the cases cannot read TLS")
    checks = _ServerChecks(url_complete, url_failing, url_slow or "", slow_seconds, headers or {}, patience_seconds)
    return cases_of(checks, {_ServerChecks.first_item_is_sent_before_the_last_is_made} if url_slow is None else ())


@dataclass(frozen=True)
class _ServerChecks:
    _complete: str
    _failing: str
    _slow: str
    _slow_seconds: float
    _headers: Mapping[str, str]
    _patience_seconds: float

    async def complete_response_ends_with_last_chunk_or_length(self) -> None:
        """A complete response has a last chunk or a Content-Length, because a close alone could also be a cut."""
        response = await self._ask(self._complete, _CLOSE)
        _ends(response, _streamed(response, self._complete))

    async def complete_http_1_0_response_ends_with_a_close(self) -> None:
        """HTTP/1.0 has no chunks, so a complete response ends with a clean close."""
        response = await self._ask(self._complete, {}, version="1.0")
        framing = _streamed(response, self._complete)
        assert framing.kind != "chunks", "an HTTP/1.0 client got a response in chunks, which HTTP/1.0 does not have"
        assert response.ending == "closed", (
            f"after a complete response the connection was {_ending(response)}, expected a close"
        )
        if framing.kind == "length":
            _ends(response, framing)

    async def head_response_has_no_body(self) -> None:
        """The response to a HEAD request has no body (RFC 9110 §9.3.2)."""
        response = await self._ask(self._complete, _CLOSE, method="HEAD")
        framing = framing_of(response.data)
        body = response.data[framing.start :]
        assert not body, f"the response to HEAD has a body of {len(body)} bytes: {shown(body)}"

    async def failed_response_has_no_end(self) -> None:
        """If the source of a response fails, the response does not look complete to any client."""
        for headers in ({}, _CLOSE):
            response = await self._ask(self._failing, headers)
            framing = _streamed(response, self._failing)
            got = f"got {shown(response.data)}"
            assert framing.end is None, {
                "chunks": f"the last chunk was sent after a failure, so the response looks complete: {got}",
                "length": f"the Content-Length was reached after a failure, so the response looks complete: {got}",
            }.get(framing.kind)
            cut = framing.kind != "close" or response.ending == "reset"
            assert cut, (
                f"after a failure the connection was {_ending(response)}, expected a reset, because nothing else shows "
                f"that the response is incomplete: {got}"
            )

    async def failed_response_has_one_status_line(self) -> None:
        """If the source fails during a response, no second status line is sent: clients would read it as content."""
        response = await self._ask(self._failing, {})
        count = response.status_lines
        assert count == 1, f"the response has {count} status lines, expected one: {shown(response.data)}"

    async def failed_response_closes_its_connection(self) -> None:
        """A failed response has no end, so no other response can follow it: the connection is closed (RFC 9112 §8)."""
        response = await self._ask(self._failing, {})
        ended = response.ending != "open"
        assert ended, f"the connection was still open {self._patience_seconds} s after the failing request"

    async def request_after_a_failed_response_gets_none(self) -> None:
        """A request pipelined after a failing one gets no response.

        A client would read such a response as content of the failed response.
        """
        requests = request(self._failing, self._headers) + request(self._complete, {**self._headers, **_CLOSE})
        response = await ask(self._failing, requests, self._patience_seconds)
        count = response.status_lines
        assert count, f"expected a response to the failing request, got {shown(response.data)}"
        assert count == 1, f"the request after the failing one got a response too: {shown(response.data)}"

    async def failed_http_1_0_response_is_reset(self) -> None:
        """A failed HTTP/1.0 response ends with a reset, or before its Content-Length.

        Otherwise, the close of the connection would make the response look complete.
        """
        for headers in ({}, _KEEP):
            response = await self._ask(self._failing, headers, version="1.0")
            if response.ending == "reset":
                continue
            framing = framing_of(response.data)
            unreached = framing.kind == "length" and framing.end is None
            assert unreached, (
                f"under HTTP/1.0 the connection of a failed response was {_ending(response)}, expected a reset: "
                f"the response looks complete to clients: {shown(response.data)}"
            )

    async def first_item_is_sent_before_the_last_is_made(self) -> None:
        """The first item is sent at once, while the source waits before the last item."""
        response = await self._ask(self._slow, _CLOSE)
        framing = _streamed(response, self._slow)
        first = next((when for when, count in response.arrivals if count > framing.start), None)
        assert first is not None, "the slow response has no body"
        between = response.arrivals[-1][0] - first
        assert between >= self._slow_seconds / 2, (
            f"the first byte of the body was received {between:.3f} s before the end of the response, though the "
            f"source waited {self._slow_seconds} s after its first item: items are held back"
        )

    async def _ask(
        self, url: str, headers: Mapping[str, str], *, method: str = "GET", version: str = "1.1"
    ) -> RawResponse:
        asked = request(url, {**self._headers, **headers}, method=method, version=version)
        return await ask(url, asked, self._patience_seconds)


def _streamed(response: RawResponse, url: str) -> Framing:
    """Return the framing of a response, and check that its status is 2xx."""
    framing = framing_of(response.data)
    assert 200 <= framing.status < 300, f"expected a stream (status 2xx) from {url}, got status {framing.status}"
    return framing


def _ends(response: RawResponse, framing: Framing) -> None:
    """Check that a response ends at its last chunk or Content-Length, and that the connection is then closed."""
    size = len(response.data) - framing.start
    assert framing.kind != "close", "only the connection's close ends the response: a cut would look complete"
    assert framing.end is not None, {
        "chunks": f"the last chunk is missing after a body of {size} bytes",
        "length": f"the body has {size} bytes, fewer than its Content-Length",
    }[framing.kind] + f", and the connection was {_ending(response)}"
    after = response.data[framing.end :]
    assert not after, f"got {len(after)} bytes after the end of the response: {shown(after)}"
    closed = response.ending == "closed"
    assert closed, (
        f"after a complete response the connection was {_ending(response)}, though the request asked for a close"
    )


def _ending(response: RawResponse) -> str:
    return {"open": "left open", "closed": "closed cleanly", "reset": "reset"}[response.ending]
