"""A message (response, request, WebSocket or bytes) -> its items, its JSON events or its text."""

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any, TypedDict, TypeGuard, Unpack, cast

from aiohttp import StreamReader, hdrs, web

from chunkwise.errors import UnknownFormat
from chunkwise.flow.inbound import Inbound
from chunkwise.formats import Format, Limits, by_media_type, by_name
from chunkwise.formats.contract import STREAM_END, Decoder
from chunkwise.formats.end_record import StreamEndDecoder
from chunkwise.formats.events import EventsDecoder
from chunkwise.formats.paths import PathLike, parse_path
from chunkwise.formats.text import TextPieces
from chunkwise.transports.http_body import HTTP, Message, chunks_of, is_empty, is_framed
from chunkwise.transports.negotiation import PREFERENCE_APPLIED, prefers
from chunkwise.transports.problems import noted
from chunkwise.transports.websocket_handshake import is_upgrade
from chunkwise.transports.websocket_messages import (
    WEBSOCKETS,
    Receiver,
    RequestReceiver,
    SocketReceiver,
    WebSocket,
    is_plain,
    line_decoder,
    lines_of,
    max_message_bytes,
)

_type = type  # functions that have a parameter `type` use this name for the built-in `type`


class LimitOptions(TypedDict, total=False):
    """The keyword arguments that set limits; `Limits` describes them and has their default values."""

    max_item_bytes: int
    max_depth: int
    max_line_bytes: int


def items(
    message: Message | WebSocket,
    path: PathLike = "",
    *,
    format: str | Format | None = None,
    type: Any = Any,
    required: bool = False,
    **limits: Unpack[LimitOptions],
) -> Inbound:
    """Return the items of a message, for ``async for``: each one as soon as its last byte has arrived.

    All complete items are delivered before an error is raised. If reading ends without an error, the ``end`` of the
    result says what proves that the stream is complete: ``"proven"`` if the format does, ``"framed"`` if only the
    transport does, ``"unknown"`` if nothing does.

    Args:
        message: a `ClientResponse`, a `web.Request`, a WebSocket of a client or a server, or any sync or async iterable
            of bytes. If the request opens a WebSocket, read it inside the source that you pass to `respond`.
        path: which values are the items: names joined by dots, with ``item`` for the elements of an array and ``*`` for
            any member of an object. A path begins at the top of a JSON document, a record or a WebSocket message:
            ``item.id`` selects the ids in a JSON array of objects, and ``id`` selects them in NDJSON. Without a path,
            each record or message is an item; a JSON array has its elements as items, and any other JSON document is
            one item.
        format: a name from `FORMATS` or a `Format`, for a message without a content type or with a wrong one. For a
            WebSocket, only "text" has an effect: its messages are then strings instead of JSON.
        type: the type of each item: anything that msgspec decodes (Struct, dataclass, TypedDict, attrs, ...).
        required: whether a path that selects nothing is an error.
        limits: ``max_item_bytes`` (64 MiB), ``max_depth`` (512 levels) and ``max_line_bytes`` (64 MiB).

    Raises:
        TypeError: the type of the message is not supported, or the path is malformed.
        ValueError: a limit is less than 1.
        UnknownFormat: no format has the content type of the message, and ``format`` was not given.
        TruncatedError: while reading: the stream stopped before its end.
        StalledError: while reading: nothing arrived for longer than the ``sock_read`` timeout of the session.
        DecodeError: while reading: the bytes are not in the format, or an item does not have the type.
        LimitError: while reading: an item, the nesting or a line is over its limit.
        PathNotFound: at the end: the path was required and selected nothing.
        RemoteError: when reading begins: the response has a status of 400 or more. While reading: the sender reports
            that it failed.
    """
    bounds = limits_of(limits)
    receiver: Receiver | None = None
    if isinstance(message, WEBSOCKETS):
        receiver = SocketReceiver(message)
    elif isinstance(message, web.BaseRequest) and is_upgrade(message):
        receiver = RequestReceiver(message, max_message_bytes(bounds.max_item_bytes))
    if receiver is not None:
        make_decoder = line_decoder(path, type=type, required=required, limits=bounds)
        return noted(message, Inbound(lines_of(receiver, plain=is_plain(format)), make_decoder, lambda: False))
    readable: tuple[type, ...] = (*HTTP, StreamReader, AsyncIterable, Iterable)
    if not isinstance(message, readable) or isinstance(message, (str, Awaitable)):
        msg = f"message: got {_type(message).__name__}, expected a response, a request, a WebSocket or chunks of bytes"
        raise TypeError(f"{msg}: await it first" if isinstance(message, Awaitable) else msg)
    read = cast("Message", message)
    make_decoder = decoder_maker(read, path, format=format, type=type, required=required, limits=bounds)
    return noted(read, Inbound(chunks_of(read), make_decoder, partial(is_framed, read), empty=is_empty(read)))


def _is_websocket(message: object) -> TypeGuard[WebSocket | web.BaseRequest]:
    return isinstance(message, WEBSOCKETS) or (isinstance(message, web.BaseRequest) and is_upgrade(message))


def limits_of(options: Mapping[str, Any]) -> Limits:
    """Return the limits set by keyword arguments; raise TypeError for an unknown name, ValueError for a value < 1."""
    limits = [field.name for field in fields(Limits)]
    if others := sorted(options.keys() - set(limits)):
        raise TypeError(f"unexpected keyword argument {others[0]!r}, expected one of {', '.join(limits)}")
    return Limits(**options)


def decoder_maker(
    message: Message, path: PathLike, *, format: str | Format | None, type: Any, required: bool, limits: Limits
) -> Callable[[], Decoder]:
    """Return a function that creates the decoder of a message; see `items` for the arguments and exceptions."""
    parse_path(path)  # a malformed path raises an error here already, and not only when reading begins
    given = by_name(format) if format is not None else None
    if given is None and not isinstance(message, HTTP):
        raise UnknownFormat("got bytes, which have no content type: name the format with format=")

    def make_decoder() -> Decoder:
        headers = message.headers if isinstance(message, HTTP) else None
        chosen = given or by_media_type(headers.get(hdrs.CONTENT_TYPE, "") if headers else "")
        decoder = chosen.decoder(path, type=type, required=required, limits=limits)
        applied = headers.getall(PREFERENCE_APPLIED, []) if headers else []
        if chosen.end_record is not None and prefers(applied, STREAM_END):
            return StreamEndDecoder(decoder, chosen.end_record)
        return decoder

    return make_decoder


def events(message: Message, **limits: Unpack[LimitOptions]) -> Inbound:
    """Return the events of a JSON message as ``(prefix, event, value)``, for ``async for``, as `ijson.parse` does.

    Each event is delivered as soon as its bytes have arrived. Numbers have the types of `json.loads`.

    Args:
        message: see `items`, but not a WebSocket. Its content type is ignored.
        limits: ``max_depth`` (512 levels) and ``max_item_bytes`` (64 MiB), which limits each string here.

    Raises:
        TypeError: the message is a WebSocket.
        ValueError: a limit is less than 1.
        TruncatedError, StalledError, DecodeError, LimitError, RemoteError: see `items`.
    """
    bounds = limits_of(limits)
    if _is_websocket(message):
        raise TypeError("events() reads one JSON document, got a WebSocket, which carries many messages: use items()")
    return noted(
        message, Inbound(chunks_of(message), lambda: EventsDecoder(limits=bounds), partial(is_framed, message))
    )


def text(message: Message | WebSocket) -> Inbound:
    """Return the text of a message, for ``async for``, in chunks as they arrive. No chunk ends inside a character.

    Args:
        message: see `items`. Its bytes are read as UTF-8. Over a WebSocket, each message is one chunk.

    Raises:
        TruncatedError, StalledError, DecodeError, RemoteError: see `items`.
    """
    if _is_websocket(message):
        return items(message, format="text")
    read = cast("Message", message)
    return noted(read, Inbound(chunks_of(read), TextPieces, partial(is_framed, read)))
