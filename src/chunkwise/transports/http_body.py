"""An HTTP message (a response at the client, a request at the server) -> its bytes, and whether its end is proven."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager

from aiohttp import ClientConnectionError, ClientError, ClientResponse, SocketTimeoutError, StreamReader, hdrs, web
from aiohttp.http_exceptions import ContentLengthError, HttpProcessingError, TransferEncodingError

from chunkwise.errors import StreamError
from chunkwise.flow.inbound import Broken, Silent
from chunkwise.transports.problems import remote_error

Message = ClientResponse | web.BaseRequest | StreamReader | AsyncIterable[bytes] | Iterable[bytes] | bytes
"""A message to read: an aiohttp response or request, or bytes in pieces."""

HTTP = (ClientResponse, web.BaseRequest)
"""The messages that have headers."""

_RECEIVE_BYTES = 120 * 1024
"""How much to read from a socket at once.

asyncio reads 256 KiB into new memory each time, which the system maps and unmaps page by page: that takes as long as
all the rest of reading. Below 128 KiB the allocator keeps the memory.
"""

_NO_CHUNK = "received a malformed chunk"


def is_framed(message: Message, *, coded: bool = False) -> bool:
    """Whether a Content-Length or a last chunk proves the end of the message, so that aiohttp has checked it.

    ``coded`` says that the caller decompresses it: aiohttp does not report a compressed stream that stops early.
    """
    if isinstance(message, HTTP) and hdrs.CONTENT_ENCODING in message.headers and not coded:
        return False
    if isinstance(message, ClientResponse):
        headers = message.headers
        codings = ",".join(headers.getall(hdrs.TRANSFER_ENCODING, []))
        # RFC 9112 §6.3, rule 4: chunks prove the end if they are the last coding that was applied.
        return hdrs.CONTENT_LENGTH in headers or codings.rpartition(",")[2].strip().lower() == "chunked"
    return True  # a request always is (RFC 9112 §6.3, rule 7); so is an iterable that ends normally


def is_empty(message: Message) -> bool:
    """Whether the message can have no content (HEAD, 204 and the like): a stream of no items in any format."""
    return isinstance(message, ClientResponse) and (
        message.method == hdrs.METH_HEAD or message.status in (204, 205, 304)
    )


def chunks_of(message: Message) -> AsyncIterator[bytes]:
    """Yield a message's bytes; raise `Broken` if some are known to be missing."""
    _receive_less_at_once(message)
    connection = message.connection if isinstance(message, ClientResponse) else None
    protocol = connection.protocol if connection is not None else None
    closing = protocol.closed if protocol is not None else None
    if closing is not None:
        closing.remove_done_callback(_retrieve)  # of an earlier message on this connection
        closing.add_done_callback(_retrieve)
    return _chunks(message, closing, lost=protocol is not None and closing is None)


def _receive_less_at_once(message: Message) -> None:
    connection = message.connection if isinstance(message, ClientResponse) else None
    transport = message.transport if isinstance(message, web.BaseRequest) else connection and connection.transport
    if getattr(transport, "max_size", 0) > _RECEIVE_BYTES:  # of asyncio's own loops; others have ways of their own
        transport.max_size = _RECEIVE_BYTES  # type: ignore[union-attr]


def _retrieve(closing: asyncio.Future[None]) -> object:
    """Retrieve the error of a closed connection, or asyncio complains later that it was never retrieved."""
    return closing.cancelled() or closing.exception()


@contextmanager
def _woken_by(closing: asyncio.Future[None] | None, content: StreamReader, *, lost: bool) -> Iterator[None]:
    """Wake the reader of content when the connection ends: aiohttp does not after a malformed chunk."""

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
            closing.remove_done_callback(wake)  # other messages may follow on the connection


async def _chunks(message: Message, closing: asyncio.Future[None] | None, *, lost: bool) -> AsyncIterator[bytes]:
    if isinstance(message, ClientResponse) and message.status >= 400:
        raise await remote_error(message)
    content = message.content if isinstance(message, HTTP) else message
    given = 0
    try:
        if isinstance(content, StreamReader):
            if isinstance(message, HTTP) and content.at_eof() and (data := await message.read()):
                given += len(data)  # the body was read before, and aiohttp has kept it
                yield data
            with _woken_by(closing, content, lost=lost or (closing is not None and closing.done())):
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
    except (ClientError, web.RequestPayloadError, HttpProcessingError, ConnectionError, TimeoutError) as error:
        if isinstance(content, StreamReader) and (data := _left_over(content)):
            yield data
        if isinstance(error, SocketTimeoutError):
            raise Silent("nothing arrived for longer than idle_seconds, or the session's sock_read, allows") from error
        raise Broken(_reason(error)) from error
    # Where only a close ends the body, aiohttp accepts a reset as well, and reports it nowhere else.
    if (
        closing is not None
        and not is_framed(message, coded=True)
        and closing.done()
        and not closing.cancelled()
        and (reset := closing.exception()) is not None
    ):
        raise Broken("the connection was reset, but only its close would have ended the body") from reset


def _left_over(content: StreamReader) -> bytes:
    """Return the bytes that arrived before the connection broke; aiohttp's reader keeps them back."""
    broken = content.exception()
    if broken is None:
        return b""
    content.set_exception(None)  # type: ignore[arg-type]  # as it was before the break
    try:
        return content.read_nowait()
    except TimeoutError:  # raised here, too, once the session's total timeout is over
        return b""
    finally:
        content.set_exception(broken)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the session's total timeout is over: use open_stream, or ClientTimeout(total=None)"
    if isinstance(error, HttpProcessingError):
        return _NO_CHUNK
    told: dict[type | None, str] = {
        ContentLengthError: "the connection closed before all bytes of the Content-Length had arrived",
        TransferEncodingError: "the connection closed before the last chunk",
    }
    if str(error) == "Connection closed":  # aiohttp's message if the body was not read
        return "the response was closed before it was read: read it inside of its `async with`"
    # aiohttp wraps its parser's error (RFC 9112 §8) in one whose text is about status 400.
    return told.get(type(error.__cause__), str(error) or type(error).__name__)
