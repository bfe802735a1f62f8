"""Read the body of an HTTP message: a response in the client, or a request in the server.

A Content-Length or chunks prove that the body is complete.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager

from aiohttp import ClientConnectionError, ClientError, ClientResponse, SocketTimeoutError, StreamReader, hdrs, web
from aiohttp.http_exceptions import ContentLengthError, HttpProcessingError, TransferEncodingError

from chunkwise.errors import StreamError
from chunkwise.flow.inbound import Broken, Silent
from chunkwise.transports.problems import remote_error

Message = ClientResponse | web.BaseRequest | StreamReader | AsyncIterable[bytes] | Iterable[bytes] | bytes
"""A message to read: an aiohttp response or request, or bytes in chunks."""

HTTP = (ClientResponse, web.BaseRequest)
"""The message types that have headers."""

_RECEIVE_BYTES = 120 * 1024
"""How many bytes to read from a socket in one call.

asyncio allocates a new buffer of 256 KiB for each call. The system maps and unmaps such a buffer page by page, which
takes as long as all other work of reading. The allocator reuses the memory of buffers below 128 KiB.
"""

_NO_CHUNK = "received a malformed chunk"


def is_framed(message: Message, *, coded: bool = False) -> bool:
    """Whether a Content-Length or a last chunk proves that the message is complete.

    If so, aiohttp raises an error for a message that ends too early.

    Pass ``coded=True`` if the caller decompresses the body. If aiohttp decompresses it, the end is not proven, because
    aiohttp does not report compressed data that ends early.
    """
    if isinstance(message, HTTP) and hdrs.CONTENT_ENCODING in message.headers and not coded:
        return False
    if isinstance(message, ClientResponse):
        headers = message.headers
        codings = ",".join(headers.getall(hdrs.TRANSFER_ENCODING, []))
        # RFC 9112 §6.3, rule 4: a last chunk proves the end if chunked is the final transfer coding.
        return hdrs.CONTENT_LENGTH in headers or codings.rpartition(",")[2].strip().lower() == "chunked"
    # A request without a length or chunks has no body (RFC 9112 §6.3, rule 7), so the end of a request is always known.
    # A caller may also pass bytes or an iterable instead of a message. Their end is known too.
    return True


def is_empty(message: Message) -> bool:
    """Whether the message cannot have content (HEAD, 204, 205 or 304), and so holds no items in any format."""
    return isinstance(message, ClientResponse) and (
        message.method == hdrs.METH_HEAD or message.status in (204, 205, 304)
    )


def chunks_of(message: Message) -> AsyncIterator[bytes]:
    """Yield the bytes of a message's body; raise `Broken` if the connection ends before the body does."""
    _receive_less_at_once(message)
    connection = message.connection if isinstance(message, ClientResponse) else None
    protocol = connection.protocol if connection is not None else None
    closing = protocol.closed if protocol is not None else None
    if closing is not None:
        # An earlier message on this connection may already have added the callback `_retrieve`. Remove it before it is
        # added again, so that the callbacks of all messages do not add up.
        closing.remove_done_callback(_retrieve)
        closing.add_done_callback(_retrieve)
    return _chunks(message, closing, lost=protocol is not None and closing is None)


def _receive_less_at_once(message: Message) -> None:
    connection = message.connection if isinstance(message, ClientResponse) else None
    transport = message.transport if isinstance(message, web.BaseRequest) else connection and connection.transport
    # The transports of asyncio's own event loops receive at most max_size bytes at once. Reduce it to save time (see
    # `_RECEIVE_BYTES`). The transports of other loops have no max_size, and stay unchanged.
    if getattr(transport, "max_size", 0) > _RECEIVE_BYTES:
        transport.max_size = _RECEIVE_BYTES  # type: ignore[union-attr]


def _retrieve(closing: asyncio.Future[None]) -> object:
    """Retrieve the error of a closed connection; otherwise asyncio logs that it was never retrieved."""
    return closing.cancelled() or closing.exception()


@contextmanager
def _woken_by(closing: asyncio.Future[None] | None, content: StreamReader, *, lost: bool) -> Iterator[None]:
    """Raise an error in the task that reads ``content`` if the connection ends before ``content`` does.

    After a malformed chunk, aiohttp does not report the end to the task, which would wait forever.
    """

    def wake(_: asyncio.Future[None] | None = None) -> None:
        if not content.is_eof() and content.exception() is None:
            content.set_exception(ClientConnectionError(_NO_CHUNK))

    if lost:
        wake()
    if closing is not None:
        closing.add_done_callback(wake)
    try:
        yield
    finally:
        if closing is not None:
            # If the callback were not removed, the callbacks of all messages on this connection would add up.
            closing.remove_done_callback(wake)


async def _chunks(message: Message, closing: asyncio.Future[None] | None, *, lost: bool) -> AsyncIterator[bytes]:
    if isinstance(message, ClientResponse) and message.status >= 400:
        raise await remote_error(message)
    content = message.content if isinstance(message, HTTP) else message
    given = 0
    try:
        if isinstance(content, StreamReader):
            # If other code has already called read(), ``content`` is at its end, but aiohttp has kept the body.
            if isinstance(message, HTTP) and content.at_eof() and (data := await message.read()):
                given += len(data)
                yield data
            with _woken_by(closing, content, lost=lost or (closing is not None and closing.done())):
                async for data in content.iter_any():
                    given += len(data)
                    yield data
            if given != content.total_bytes:
                taken = content.total_bytes - given
                msg = f"other code has read {taken} of the {content.total_bytes} bytes of this body: read it only once"
                raise StreamError(msg)
        elif isinstance(content, (bytes, bytearray, memoryview)):
            yield bytes(content)
        elif isinstance(content, AsyncIterable):
            async for data in content:
                yield data
        else:
            for data in content:
                yield data
    except (ClientError, web.RequestPayloadError, HttpProcessingError, ConnectionError, TimeoutError) as error:
        if isinstance(content, StreamReader) and (data := _left_over(content)):
            yield data
        if isinstance(error, SocketTimeoutError):
            raise Silent("nothing arrived within the timeout (idle_seconds or sock_read)") from error
        raise Broken(_reason(error)) from error
    # If only the connection's close marks the end of a body, aiohttp handles a reset like a close, without an error.
    # Then only the future of the closed connection, ``closing``, has the error.
    if (
        closing is not None
        and not is_framed(message, coded=True)
        and closing.done()
        and not closing.cancelled()
        and (reset := closing.exception()) is not None
    ):
        raise Broken(
            "the connection was reset, expected an orderly close, because neither a Content-Length nor a last chunk "
            "marks the end of the body"
        ) from reset


def _left_over(content: StreamReader) -> bytes:
    """Return the bytes that arrived before an error. aiohttp's reader raises the error instead of returning them."""
    broken = content.exception()
    if broken is None:
        return b""
    content.set_exception(None)  # type: ignore[arg-type]  # the reader returns bytes only without an error
    try:
        return content.read_nowait()
    except TimeoutError:
        # When the session's total timeout has expired, every read raises TimeoutError, so the bytes that have arrived
        # cannot be read.
        return b""
    finally:
        content.set_exception(broken)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the session's total timeout expired: use open_stream, or ClientTimeout(total=None)"
    if isinstance(error, HttpProcessingError):
        return _NO_CHUNK
    told: dict[type | None, str] = {
        ContentLengthError: "the connection closed before all bytes of the Content-Length had arrived",
        TransferEncodingError: "the connection closed before the last chunk",
    }
    # The error of aiohttp has the text "Connection closed" if the response was closed before it was read.
    if str(error) == "Connection closed":
        return "the response was closed before it was read: read it inside its `async with`"
    # If a body ends too early, the text of aiohttp's error contains "400", which is not the status of the response. So
    # return another text, chosen by the type of the error's cause.
    return told.get(type(error.__cause__), str(error) or type(error).__name__)
