"""An HTTP message -> its items: answers at a client, requests at a server, or any bytes.

Must not know any one format: the message's content type says which it is, unless the caller does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any, TypedDict, Unpack

from aiohttp import AsyncIterablePayload, ClientError, ClientResponse, SocketTimeoutError, StreamReader, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import ContentLengthError, TransferEncodingError

from chunkwise.errors import StreamError, UnknownFormat
from chunkwise.flow.inbound import Broken, Inbound, Silent
from chunkwise.flow.outbound import open_outbound
from chunkwise.formats import Format, Limits, by_media_type, by_name
from chunkwise.formats.contract import STREAM_END, Decoder
from chunkwise.formats.events import EventsDecoder
from chunkwise.formats.paths import PathLike, parse_path
from chunkwise.formats.stream_end import StreamEndDecoder
from chunkwise.formats.text import TextPieces
from chunkwise.transports.negotiation import PREFERENCE_APPLIED, prefers
from chunkwise.transports.problems import remote_error

Message = ClientResponse | web.BaseRequest | StreamReader | AsyncIterable[bytes] | Iterable[bytes] | bytes
"""What can be read: an aiohttp response or request, or bytes in pieces."""

_HTTP = (ClientResponse, web.BaseRequest)
_type = type  # `type` is a parameter below


class LimitOptions(TypedDict, total=False):
    """What is accepted at most, as keyword arguments: see `Limits`, which has the defaults."""

    max_item_bytes: int
    max_depth: int
    max_line_bytes: int


def items(
    message: Message,
    path: PathLike = "",
    *,
    format: str | Format | None = None,
    type: Any = Any,
    required: bool = False,
    **limits: Unpack[LimitOptions],
) -> Inbound:
    """Return the items of a message, for ``async for``: each as soon as its last byte came.

    All items that came whole are given before an error is raised. A stream that ends without an error is whole: its
    grammar or its framing proves that.

    Args:
        message: a `ClientResponse`, a `web.Request`, or any sync or async iterable of bytes.
        path: which values are the items: names joined by dots, ``item`` for the elements of an array, ``*`` for any
            member of an object. ``""`` stands for the elements of a JSON array, for any other JSON value as one item,
            and for the records of all other formats, inside which a path selects.
        format: a name from `FORMATS`, where the message has no content type, or a wrong one.
        type: what each item is decoded to: anything that msgspec decodes (Struct, dataclass, TypedDict, attrs, ...).
        required: whether a stream in which the path selected nothing is an error.
        limits: ``max_item_bytes`` (64 MiB), ``max_depth`` (512), ``max_line_bytes`` (64 MiB).

    Raises:
        UnknownFormat: the content type is no format's, and ``format`` was not given.
        TruncatedError: while reading: the stream stopped before its end.
        StalledError: while reading: nothing came for longer than the session's ``sock_read`` allows.
        DecodeError: while reading: the bytes are not the format, or an item is not of the type.
        LimitError: while reading: an item, a depth or a line is over its limit.
        PathNotFound: at the end: the path was required, and selected nothing.
        RemoteError: when reading begins: the answer has a status of 400 or more; while reading: the sender of a
            stream that had begun says that it failed.
    """
    if not isinstance(message, (*_HTTP, StreamReader, AsyncIterable, Iterable)):
        msg = f"a message is a response, a request or an iterable of bytes, got {_type(message).__name__}"
        raise TypeError(msg)
    make_decoder = decoder_maker(message, path, format=format, type=type, required=required, limits=Limits(**limits))
    return Inbound(chunks_of(message), make_decoder, partial(is_framed, message), empty=is_empty(message))


def decoder_maker(
    message: Message, path: PathLike, *, format: str | Format | None, type: Any, required: bool, limits: Limits
) -> Callable[[], Decoder]:
    """Return what makes the decoder of a message; for the arguments and what it raises, see `items`."""
    parse_path(path)  # a path that is none is the caller's error, not the stream's
    given = by_name(format) if format is not None else None
    if given is None and not isinstance(message, _HTTP):
        msg = "bytes do not say their format: name it with format="
        raise UnknownFormat(msg)

    def make_decoder() -> Decoder:
        headers = message.headers if isinstance(message, _HTTP) else None
        chosen = given or by_media_type(headers.get(hdrs.CONTENT_TYPE, "") if headers else "")
        decoder = chosen.decoder(path, type=type, required=required, limits=limits)
        applied = headers.getall(PREFERENCE_APPLIED, []) if headers else []
        if chosen.end_record is not None and prefers(applied, STREAM_END):
            return StreamEndDecoder(decoder, chosen.end_record)
        return decoder

    return make_decoder


def events(message: Message, **limits: Unpack[LimitOptions]) -> Inbound:
    """Return ``(prefix, event, value)`` of a JSON message, for ``async for``, as `ijson.parse` gives them.

    Numbers are as `json.loads` gives them. An event comes as soon as its bytes did.

    Args:
        message: see `items`; its content type is not looked at.
        limits: ``max_depth`` (512) and ``max_item_bytes`` (64 MiB), here of one string.

    Raises:
        TruncatedError, DecodeError, LimitError, RemoteError: as `items` does.
    """
    bounds = Limits(**limits)
    return Inbound(chunks_of(message), lambda: EventsDecoder(limits=bounds), partial(is_framed, message))


def text(message: Message) -> Inbound:
    """Return the text of a message in pieces, for ``async for``, each as it came; split characters come whole.

    Args:
        message: see `items`; its bytes are taken as UTF-8.

    Raises:
        TruncatedError, DecodeError, RemoteError: as `items` does.
    """
    return Inbound(chunks_of(message), TextPieces, partial(is_framed, message))


def body(source: Any, format: str | Format) -> AsyncIterablePayload:
    """Return a source of items as a request's body: ``session.post(url, data=chunkwise.body(rows(), "ndjson"))``.

    It is sent as chunks while the source gives items, with the format's content type. A source that fails never sends
    the last chunk.

    Args:
        source: see `respond`.
        format: a name from `FORMATS`.

    Raises:
        UnknownFormat: there is no such format.
        TypeError: the source is a function.
    """
    chosen = by_name(format)
    return ClosingPayload(open_outbound(source, chosen).pieces(), content_type=chosen.content_type)


class ClosingPayload(AsyncIterablePayload):
    """Closes the source when sending ends, however it ends, which aiohttp leaves to the garbage collector."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], *, content_type: str) -> None:
        super().__init__(pieces, content_type=content_type)
        self._pieces = pieces

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write the pieces, then close their source."""
        async with aclosing(self._pieces):
            await super().write_with_length(writer, content_length)


def is_framed(message: Message, *, coded: bool = False) -> bool:
    """Whether the message's length was told beforehand or by a last chunk, so that aiohttp has checked it.

    Args:
        message: the message.
        coded: whether its content coding is not undone by aiohttp, which does not tell a compressed stream that stops
            early.
    """
    if isinstance(message, _HTTP) and hdrs.CONTENT_ENCODING in message.headers and not coded:
        return False
    if isinstance(message, ClientResponse):
        headers = message.headers
        codings = ",".join(headers.getall(hdrs.TRANSFER_ENCODING, []))
        # RFC 9112 §6.3, rule 4: chunks tell the end if they are the last coding that was applied.
        return hdrs.CONTENT_LENGTH in headers or codings.rpartition(",")[2].strip().lower() == "chunked"
    return True  # a request always is (RFC 9112 §6.3, rule 7); an iterable that ends normally says that it is all


def is_empty(message: Message) -> bool:
    """Whether the message has no content by its nature, which is a stream of no items in any format."""
    return isinstance(message, ClientResponse) and (
        message.method == hdrs.METH_HEAD or message.status in (204, 205, 304)
    )


def chunks_of(message: Message) -> AsyncIterator[bytes]:
    """Give a message's bytes, and raise `Broken` where they are known not to be all."""
    return _chunks(message, None if is_framed(message, coded=True) else _closing(message))


def _closing(message: Message) -> asyncio.Future[None] | None:
    """Return what will tell how an answer's connection was closed, if it is still open.

    Where only the close ends a body, aiohttp takes a reset for that as well, and tells it nowhere else.
    """
    connection = message.connection if isinstance(message, ClientResponse) else None
    closing = connection.protocol.closed if connection is not None and connection.protocol is not None else None
    if closing is not None:
        closing.add_done_callback(lambda done: done.cancelled() or done.exception())  # or asyncio complains of it
    return closing


async def _chunks(message: Message, closing: asyncio.Future[None] | None) -> AsyncIterator[bytes]:
    if isinstance(message, ClientResponse) and message.status >= 400:
        raise await remote_error(message)
    content = message.content if isinstance(message, _HTTP) else message
    given = 0
    try:
        if isinstance(content, StreamReader):
            if isinstance(message, _HTTP) and content.at_eof() and (data := await message.read()):
                given += len(data)  # it was read whole before, and has kept it
                yield data
            async for data in content.iter_any():
                given += len(data)
                yield data
            if given != content.total_bytes:
                msg = f"{content.total_bytes - given} of {content.total_bytes} bytes of the message were read by others"
                raise StreamError(msg)
        elif isinstance(content, (bytes, bytearray, memoryview)):
            yield bytes(content)
        elif isinstance(content, AsyncIterable):
            async for data in content:
                yield data
        else:
            for data in content:
                yield data
    except (ClientError, web.RequestPayloadError, ConnectionError, TimeoutError) as error:
        if isinstance(content, StreamReader) and (data := _left_over(content)):
            yield data
        if isinstance(error, SocketTimeoutError):
            raise Silent("nothing came for longer than idle_seconds, or the session's sock_read, allows") from error
        raise Broken(_reason(error)) from error
    if (
        closing is not None
        and closing.done()
        and not closing.cancelled()
        and (reset := closing.exception()) is not None
    ):
        raise Broken("the connection was reset, where only its close would have ended the body") from reset


def _left_over(content: StreamReader) -> bytes:
    """Return what came before the connection broke: aiohttp's reader has it, but gives none once it knows of that."""
    broken = content.exception()
    if broken is None:
        return b""
    content.set_exception(None)  # type: ignore[arg-type]  # as it was before the break
    try:
        return content.read_nowait()
    except TimeoutError:  # it refuses that, too, once the session's total time is over
        return b""
    finally:
        content.set_exception(broken)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the session's total timeout is over: open_stream has none, ClientTimeout(total=None) neither"
    told: dict[type | None, str] = {
        ContentLengthError: "the connection closed before all bytes of its Content-Length came",
        TransferEncodingError: "the connection closed before the last chunk came",
    }
    # aiohttp wraps what its parser found (RFC 9112 §8 asks to tell it) in an error whose text speaks of status 400.
    return told.get(type(error.__cause__), str(error) or type(error).__name__)
