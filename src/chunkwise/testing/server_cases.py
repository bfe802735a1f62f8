"""What every HTTP server that streams promises: judged by the bytes on the wire, of servers of any make.

Must not know aiohttp, nor any format: clients that hide what went wrong are of no use here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from chunkwise.testing.answers import Answer, Frame, ask, frame_of, request
from chunkwise.testing.conformance import ConformanceCase, shown

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
    """Return what a server promises of its streams, as cases.

    The items must not contain text that looks like a status line (``HTTP/1.1 200 OK``).

    Args:
        url_complete: answers with a stream that goes well.
        url_failing: answers with a stream whose source fails behind its first items.
        url_slow: answers with a stream whose source waits between its first item and its last; None leaves out the case
            that needs it.
        slow_seconds: how long that source waits.
        headers: of each request: an Accept, say.
        patience_seconds: after how long an answer that does not end is judged by what came.

    Raises:
        ValueError: a URL is not ``http://``.
    """
    for url in filter(None, (url_complete, url_failing, url_slow)):
        if urlsplit(url).scheme != "http" or not urlsplit(url).hostname:
            raise ValueError(f"expected an http:// URL, got {url!r}: the cases read plain bytes")
    checks = _ServerChecks(url_complete, url_failing, url_slow or "", slow_seconds, headers or {}, patience_seconds)
    promises: list[Callable[[], Awaitable[None]]] = [
        checks.a_whole_answer_ends_with_its_last_chunk_or_length,
        checks.a_whole_answer_under_http_1_0_ends_with_a_close,
        checks.head_gets_no_body,
        checks.a_failed_answer_has_no_end,
        checks.a_failed_answer_has_one_status_line,
        checks.a_failed_answer_closes_its_connection,
        checks.a_request_behind_a_failed_answer_gets_none,
        checks.a_failed_answer_under_http_1_0_is_reset,
    ]
    if url_slow is not None:
        promises.append(checks.the_first_item_comes_before_the_last_is_made)
    return [ConformanceCase(check.__name__.replace("_", "-"), check) for check in promises]


class _ServerChecks:
    def __init__(
        self,
        complete: str,
        failing: str,
        slow: str,
        slow_seconds: float,
        headers: Mapping[str, str],
        patience_seconds: float,
    ) -> None:
        self._complete = complete
        self._failing = failing
        self._slow = slow
        self._slow_seconds = slow_seconds
        self._headers = headers
        self._patience_seconds = patience_seconds

    async def a_whole_answer_ends_with_its_last_chunk_or_length(self) -> None:
        """Framing proves the end: a close does not."""
        answer = await self._ask(self._complete, _CLOSE)
        _ends(answer, _streamed(answer, self._complete))

    async def a_whole_answer_under_http_1_0_ends_with_a_close(self) -> None:
        """HTTP/1.0 has no chunks: a clean close, or the length, is the end."""
        answer = await self._ask(self._complete, {}, version="1.0")
        frame = _streamed(answer, self._complete)
        assert frame.kind != "chunks", "an HTTP/1.0 client was answered in chunks, which it does not know"
        assert answer.ending == "closed", (
            f"behind a whole answer the connection was {_ending(answer)}, expected a close"
        )
        if frame.kind == "length":
            _ends(answer, frame)

    async def head_gets_no_body(self) -> None:
        """Where a HEAD request is answered, nothing follows the head (RFC 9110 §9.3.2)."""
        answer = await self._ask(self._complete, _CLOSE, method="HEAD")
        frame = frame_of(answer.data)
        body = answer.data[frame.start :]
        assert not body, f"HEAD was answered with a body of {len(body)} bytes: {shown(body)}"

    async def a_failed_answer_has_no_end(self) -> None:
        """No client can take an answer for a whole one whose source has failed."""
        for headers in ({}, _CLOSE):
            answer = await self._ask(self._failing, headers)
            frame = _streamed(answer, self._failing)
            came = f"the answer was {shown(answer.data)}"
            assert frame.end is None, {
                "chunks": f"the last chunk was sent behind a failure, so that the answer looks whole: {came}",
                "length": f"the Content-Length was reached behind a failure, so that the answer looks whole: {came}",
            }.get(frame.kind)
            cut = frame.kind != "close" or answer.ending == "reset"
            assert cut, f"only the close ends the answer, and behind a failure it was {_ending(answer)}: {came}"

    async def a_failed_answer_has_one_status_line(self) -> None:
        """An answer that has begun cannot become another: an error's status line would be content."""
        answer = await self._ask(self._failing, {})
        count = answer.status_lines
        assert count == 1, f"the answer has {count} status lines, expected one: {shown(answer.data)}"

    async def a_failed_answer_closes_its_connection(self) -> None:
        """Nothing can follow an answer that has no end (RFC 9112 §8)."""
        answer = await self._ask(self._failing, {})
        ended = answer.ending != "open"
        assert ended, f"{self._patience_seconds} s after the request that fails its connection was still open"

    async def a_request_behind_a_failed_answer_gets_none(self) -> None:
        """A pipelined request is not answered: its answer would be taken for content of the failed one."""
        requests = request(self._failing, self._headers) + request(self._complete, {**self._headers, **_CLOSE})
        answer = await ask(self._failing, requests, self._patience_seconds)
        count = answer.status_lines
        assert count, f"the request that fails was not answered at all, but with {shown(answer.data)}"
        assert count == 1, f"a request behind the one that fails was answered as well: {shown(answer.data)}"

    async def a_failed_answer_under_http_1_0_is_reset(self) -> None:
        """A clean close would be the end: a reset is none, nor is a Content-Length that is not reached."""
        for headers in ({}, _KEEP):
            answer = await self._ask(self._failing, headers, version="1.0")
            if answer.ending == "reset":
                continue
            frame = frame_of(answer.data)
            unreached = frame.kind == "length" and frame.end is None
            assert unreached, (
                f"under HTTP/1.0 the connection of a failed answer was {_ending(answer)}, expected a reset: "
                f"a client takes it for whole: {shown(answer.data)}"
            )

    async def the_first_item_comes_before_the_last_is_made(self) -> None:
        """What the source has made is sent while it waits."""
        answer = await self._ask(self._slow, _CLOSE)
        frame = _streamed(answer, self._slow)
        first = next((when for when, count in answer.arrivals if count > frame.start), None)
        assert first is not None, "the slow answer has no body"
        between = answer.arrivals[-1][0] - first
        assert between >= self._slow_seconds / 2, (
            f"the first byte of the body came {between:.3f} s before the end of the answer, though the source waited "
            f"{self._slow_seconds} s behind its first item: items are held back"
        )

    async def _ask(self, url: str, headers: Mapping[str, str], *, method: str = "GET", version: str = "1.1") -> Answer:
        asked = request(url, {**self._headers, **headers}, method=method, version=version)
        return await ask(url, asked, self._patience_seconds)


def _streamed(answer: Answer, url: str) -> Frame:
    """Return the frame of an answer that has begun well."""
    frame = frame_of(answer.data)
    assert 200 <= frame.status < 300, f"{url} answered {frame.status}, expected a stream (2xx)"
    return frame


def _ends(answer: Answer, frame: Frame) -> None:
    """Check that an answer ends where its framing says."""
    size = len(answer.data) - frame.start
    assert frame.kind != "close", "only the connection's close ends the answer: a cut would look whole"
    assert frame.end is not None, {
        "chunks": f"the last chunk is missing behind a body of {size} bytes, and the connection was {_ending(answer)}",
        "length": f"the body has {size} bytes, fewer than its Content-Length, and the connection was {_ending(answer)}",
    }.get(frame.kind)
    behind = answer.data[frame.end :]
    assert not behind, f"{len(behind)} bytes stand behind the end of the answer: {shown(behind)}"
    closed = answer.ending == "closed"
    assert closed, f"behind a whole answer the connection was {_ending(answer)}, though a close was asked for"


def _ending(answer: Answer) -> str:
    return {"open": "left open", "closed": "closed cleanly", "reset": "reset"}[answer.ending]
