"""An HTTP request -> the items of its response, decompressed, and with a proof of the end if the server sends one."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import (
    ClientResponse,
    ClientTimeout,
    SocketTimeoutError,
    hdrs,
)

from chunkwise.client.request import Request
from chunkwise.client.response_items import ResponseItems
from chunkwise.client.upload import sending
from chunkwise.errors import StalledError, TruncatedError
from chunkwise.flow.inbound import Broken
from chunkwise.formats.contract import STREAM_END
from chunkwise.transports.content_coding import CODINGS, Decompressor, codings_of
from chunkwise.transports.http_body import chunks_of, is_empty, is_framed
from chunkwise.transports.problems import remote_error
from chunkwise.transports.range_headers import RangeInfo
from chunkwise.transports.reading import decoder_maker


@asynccontextmanager
async def open_http(request: Request, more_headers: Mapping[str, str]) -> AsyncIterator[ResponseItems]:
    """Send a request, and yield the items of its response; raise RemoteError for a status of 400 or more."""
    headers = request.session.headers.copy()
    headers.update({**request.headers, **more_headers})
    headers["Prefer"] = ", ".join([*headers.popall("Prefer", []), STREAM_END])
    headers.setdefault(hdrs.ACCEPT_ENCODING, ", ".join(CODINGS))
    seconds = request.idle_seconds
    opening = request.session.request(
        request.method,
        request.url,
        params=request.params,
        headers=headers,
        data=request.data,
        json=request.json,
        auto_decompress=False,
        raise_for_status=False,
        timeout=ClientTimeout(total=None, connect=seconds, sock_read=seconds),
    )
    async with sending(request.upload, seconds):
        try:
            response = await opening
        except SocketTimeoutError as error:
            raise no_response() from error
        async with response:
            if response.status >= 400:
                raise await remote_error(response, coding=response.headers.get(hdrs.CONTENT_ENCODING, ""))
            yield _items_of(response, request)


def no_response() -> StalledError:
    """Return the error for a server that has sent no response within ``idle_seconds``."""
    return StalledError("the server sent no response within the timeout (idle_seconds)")


def _items_of(response: ClientResponse, request: Request) -> ResponseItems:
    empty, chosen = is_empty(response), request.format
    if callable(chosen):
        chosen = None if empty else chosen(response)
    codings = [] if empty else codings_of(", ".join(response.headers.getall(hdrs.CONTENT_ENCODING, [])))
    make_decoder = decoder_maker(
        response, request.path, format=chosen, type=request.type, required=request.required, limits=request.limits
    )
    chunks = chunks_of(response)
    framed = is_framed(response, coded=True)
    if codings:
        chunks = _decompressed(chunks, codings, request.max_ratio, framed=framed)
    # The codings br and deflate mark their end, which proves that the response is complete. The end of a gzip member or
    # zstd frame is no proof, because another one could follow.
    proves_end = framed or (bool(codings) and codings[-1] in ("br", "deflate"))
    return ResponseItems(
        response,
        chunks,
        make_decoder,
        lambda: proves_end,
        empty=empty,
        upload=request.upload,
        range_info=RangeInfo.from_headers(response.headers),
    )


async def _decompressed(
    chunks: AsyncIterator[bytes], codings: list[str], max_ratio: int, *, framed: bool
) -> AsyncIterator[bytes]:
    decompressor = Decompressor(", ".join(codings), max_ratio=max_ratio)
    async for data in chunks:
        # If at least one byte arrived, decompressor.finish() detects compressed data that stops early. `framed`, which
        # says whether HTTP marks the end of the body, is only needed if no byte arrived.
        framed = True
        for piece in decompressor.feed(data):
            yield piece
    try:
        decompressor.finish()
    except TruncatedError as error:
        raise Broken(error.message) from error
    if not framed:
        raise Broken(f"the connection closed before the first byte of the {codings[-1]} data arrived")
