"""A URL -> its stream: the request that asks for proof of the end, and the answer, decompressed here.

Must not know any one format.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Unpack

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, SocketTimeoutError, hdrs
from aiohttp.typedefs import StrOrURL

from chunkwise.errors import StalledError, TruncatedError
from chunkwise.flow.inbound import Broken, Inbound
from chunkwise.formats import Format, Limits, by_name
from chunkwise.formats.contract import STREAM_END
from chunkwise.formats.paths import PathLike
from chunkwise.transports.compression import CODINGS, MAX_RATIO, Decompressor, codings_of
from chunkwise.transports.http_chunks import chunks_of, is_empty, is_framed
from chunkwise.transports.problems import remote_error
from chunkwise.transports.reading import LimitOptions, decoder_maker
from chunkwise.transports.uploading import ClosingPayload


class Stream(Inbound):
    """The items of an answer, by ``async for``; see `Inbound`.

    Attributes:
        response: the answer; its content is the stream's to read.
    """

    def __init__(
        self,
        response: ClientResponse,
        path: PathLike = "",
        *,
        format: str | Format | None = None,
        type: Any = Any,
        required: bool = False,
        max_ratio: int = MAX_RATIO,
        limits: Limits,
        upload: ClosingPayload | None = None,
    ) -> None:
        self.response = response
        empty = is_empty(response)
        codings = [] if empty else codings_of(", ".join(response.headers.getall(hdrs.CONTENT_ENCODING, [])))
        make_decoder = decoder_maker(response, path, format=format, type=type, required=required, limits=limits)
        chunks = chunks_of(response)
        framed = is_framed(response, coded=True)
        if codings:
            chunks = _decompressed(chunks, codings, max_ratio, framed=framed)
        super().__init__(
            _unless_failed(chunks, upload) if upload is not None else chunks,
            make_decoder,
            # Behind a gzip member or a zstd frame another might have come.
            lambda: framed or (bool(codings) and codings[-1] in ("br", "deflate")),
            empty=empty,
        )


@asynccontextmanager
async def open_stream(
    session: ClientSession,
    url: StrOrURL,
    path: PathLike = "",
    *,
    method: str = hdrs.METH_GET,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    data: Any = None,
    json: Any = None,
    format: str | Format | None = None,
    type: Any = Any,
    required: bool = False,
    idle_seconds: float = 60.0,
    max_ratio: int = MAX_RATIO,
    **limits: Unpack[LimitOptions],
) -> AsyncIterator[Stream]:
    """Request a URL; ``async with`` gives the `Stream` of its answer.

    It knows more of the end than `items` does of a response that you have requested: it asks the server for a record
    that proves the end (``Prefer: stream-end``), and it sees a compressed stream that stops early. ``stream.end`` tells
    how sure it was. A stream may take as long as it likes; only silence is limited, whatever the session's timeout.

    Args:
        session: the session; its base URL, headers, cookies and connections are used.
        url: the URL.
        path: see `items`.
        method: the request's method.
        params: its query.
        headers: more headers.
        data: its body, as aiohttp takes it; `body` makes one of a source. What that source raises is raised here, too.
        json: its body, as JSON.
        format: a name from `FORMATS`, which is asked for, and taken to be what comes; by default the server chooses.
        type: see `items`.
        required: see `items`.
        idle_seconds: how long nothing may come, and how long the server may take nothing of what `body` gives.
        max_ratio: how many bytes may come of one byte of a compressed answer (10,000), behind the first MiB.
        limits: see `items`.

    Raises:
        ClientError: aiohttp's: there is no connection.
        RemoteError: the answer has a status of 400 or more; while reading, see `items`.
        StalledError: nothing came, or was taken, for idle_seconds.
        UnknownFormat, TruncatedError, DecodeError, LimitError, PathNotFound: while reading, see `items`.
    """
    bounds = Limits(**limits)
    own: dict[str, str] = {}
    if format is not None:
        own[hdrs.ACCEPT] = ", ".join(by_name(format).media_types)
    body = {"params": params, "data": data, "json": json}
    opened = open_response(session, method, url, idle_seconds=idle_seconds, headers={**own, **(headers or {})}, **body)
    upload = data if isinstance(data, ClosingPayload) else None
    async with opened as response:
        stream = Stream(
            response,
            path,
            format=format,
            type=type,
            required=required,
            max_ratio=max_ratio,
            limits=bounds,
            upload=upload,
        )
        yield stream
    if upload is not None and upload.failure is not None and stream.failure is None:
        raise upload.failure  # which nobody has seen: whatever was answered, the server has not got it all


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
    """Request a URL so that `Stream` can read the answer: not decompressed, asked to prove its end, of any length.

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
    requesting = session.request(method, url, headers=asked, auto_decompress=False, timeout=timeout, **options)
    async with sending(upload if isinstance(upload, ClosingPayload) else None, idle_seconds):
        try:
            response = await requesting
        except SocketTimeoutError as error:
            raise StalledError("the server did not answer for longer than idle_seconds allows") from error
        async with response:
            if response.status >= 400:
                raise await remote_error(response, coding=response.headers.get(hdrs.CONTENT_ENCODING, ""))
            yield response


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


async def _unless_failed(chunks: AsyncIterator[bytes], upload: ClosingPayload) -> AsyncIterator[bytes]:
    """Raise what has failed in the upload instead of the end that it has made of the answer."""
    try:
        async for data in chunks:
            yield data
    except Broken:
        if upload.failure is None:
            raise
    if upload.failure is not None:
        raise upload.failure


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
