"""A request -> its answer as a stream: asked to prove its end, and decompressed here.

Must not know any one format.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, SocketTimeoutError, hdrs
from aiohttp.typedefs import StrOrURL

from chunkwise.client.answer import Answer
from chunkwise.client.upload import ClosingPayload
from chunkwise.errors import StalledError, TruncatedError
from chunkwise.flow.inbound import Broken
from chunkwise.formats import Format, Limits
from chunkwise.formats.contract import DEFAULT_LIMITS, STREAM_END
from chunkwise.formats.paths import PathLike
from chunkwise.transports.content_coding import CODINGS, MAX_RATIO, Decompressor, codings_of
from chunkwise.transports.http_body import chunks_of, is_empty, is_framed
from chunkwise.transports.problems import remote_error
from chunkwise.transports.range_headers import RangeInfo
from chunkwise.transports.reading import decoder_maker


@asynccontextmanager
async def open_response(
    session: ClientSession,
    method: str,
    url: StrOrURL,
    *,
    idle_seconds: float,
    headers: Mapping[str, str],
    **options: Any,
) -> AsyncIterator[ClientResponse]:
    """Request a URL so that `Answer` can read the answer: not decompressed, asked to prove its end, of any length.

    Raises:
        RemoteError: it has a status of 400 or more.
        StalledError: it has not begun for idle_seconds.
    """
    asked = session.headers.copy()
    asked.update(headers)
    asked["Prefer"] = ", ".join([*asked.popall("Prefer", []), STREAM_END])
    asked.setdefault(hdrs.ACCEPT_ENCODING, ", ".join(CODINGS))
    timeout = stream_timeout(idle_seconds)
    upload = options.get("data")
    requesting = session.request(
        method, url, headers=asked, auto_decompress=False, raise_for_status=False, timeout=timeout, **options
    )
    async with (
        sending(upload if isinstance(upload, ClosingPayload) else None, idle_seconds),
        await begun(requesting) as response,
    ):
        if response.status >= 400:
            raise await remote_error(response, coding=response.headers.get(hdrs.CONTENT_ENCODING, ""))
        yield response


async def begun(requesting: Awaitable[ClientResponse]) -> ClientResponse:
    """Return the answer to a request when it begins.

    Raises:
        StalledError: it has not, for as long as the request allows.
    """
    try:
        return await requesting
    except SocketTimeoutError as error:
        raise no_answer() from error


def no_answer() -> StalledError:
    """Return the error that tells that a server has not begun to answer."""
    return StalledError("the server did not answer for longer than idle_seconds allows")


def stream_timeout(idle_seconds: float) -> ClientTimeout:
    """Return the timeouts for a stream of any length: only silence is limited."""
    return ClientTimeout(total=None, connect=idle_seconds, sock_read=idle_seconds)


@asynccontextmanager
async def sending(upload: ClosingPayload | None, idle_seconds: float) -> AsyncIterator[None]:
    """Run a request in the body; what has failed in its upload is raised instead of what came of that."""
    if upload is None:
        yield
        return
    upload.stall_seconds = idle_seconds
    failed = False
    try:
        yield
    except (ClientError, TruncatedError, StalledError) as error:
        if upload.failure is None or error is upload.failure:
            raise
        failed = True
    finally:
        await upload.wait_closed()
    if failed and upload.failure is not None:
        raise upload.failure


def stream_of(
    response: ClientResponse,
    path: PathLike = "",
    *,
    format: str | Format | None = None,
    type: Any = Any,
    required: bool = False,
    max_ratio: int = MAX_RATIO,
    limits: Limits = DEFAULT_LIMITS,
    upload: ClosingPayload | None = None,
) -> Answer:
    """Return the stream of an answer of `open_response`; for the arguments see `open_stream`."""
    empty = is_empty(response)
    codings = [] if empty else codings_of(", ".join(response.headers.getall(hdrs.CONTENT_ENCODING, [])))
    make_decoder = decoder_maker(response, path, format=format, type=type, required=required, limits=limits)
    chunks = chunks_of(response)
    framed = is_framed(response, coded=True)
    if codings:
        chunks = _decompressed(chunks, codings, max_ratio, framed=framed)
    # Behind a gzip member or a zstd frame another might have come.
    ends_itself = bool(codings) and codings[-1] in ("br", "deflate")
    start = RangeInfo.from_headers(response.headers)
    return Answer(
        response, chunks, make_decoder, lambda: framed or ends_itself, empty=empty, upload=upload, start=start
    )


async def _decompressed(
    chunks: AsyncIterator[bytes], codings: list[str], max_ratio: int, *, framed: bool
) -> AsyncIterator[bytes]:
    decompressor = Decompressor(", ".join(codings), max_ratio=max_ratio)
    async for data in chunks:
        framed = True  # the coding ends by itself, if it has begun
        for piece in decompressor.feed(data):
            yield piece
    try:
        decompressor.finish()
    except TruncatedError as error:
        raise Broken(error.message) from error
    if not framed:
        raise Broken(f"the connection closed before any byte of the {codings[-1]} stream came")
