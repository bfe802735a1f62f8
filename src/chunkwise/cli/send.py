"""``chunkwise send``: a file -> a chunked request or WebSocket messages; the response -> stdout."""

import asyncio
import errno
import os
import stat
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import rich_click as click
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, SocketTimeoutError, hdrs

from chunkwise import Batches, body, open_stream
from chunkwise.cli.get import is_token, parse_headers
from chunkwise.cli.progress import progress
from chunkwise.errors import StalledError, TruncatedError, UnknownFormat
from chunkwise.flow.outbound import Outbound
from chunkwise.formats import FORMATS, Format, by_suffix
from chunkwise.formats.parsing.record_encoder import RecordEncoder
from chunkwise.sources.files import read_file
from chunkwise.transports.problems import remote_error
from chunkwise.transports.websocket_handshake import is_websocket_url

_BLOCK_BYTES = 256 * 1024


class _Upload:
    """Reads a file as items or, if ``format`` is None, as blocks of bytes, and counts the items."""

    def __init__(self, file: Path, format: Format | None) -> None:
        self.items_sent = 0
        self.is_whole = False
        self._file = file
        self._format = format

    async def lists(self) -> AsyncGenerator[list[Any], None]:
        """Yield the items of the file, or its blocks of bytes, in lists."""
        lists = self._blocks() if self._format is None else aiter(read_file(self._file, self._format))
        async with aclosing(lists):
            async for batch in lists:
                yield batch
                self.items_sent += 0 if self._format is None else len(batch)
        self.is_whole = True

    async def _blocks(self) -> AsyncGenerator[list[Any], None]:
        with self._file.open("rb") as file:
            while data := await asyncio.to_thread(file.read, _BLOCK_BYTES):
                yield [data]


class _Unchanged(RecordEncoder):
    """An encoder that returns blocks of bytes unchanged, for a file that is sent without conversion."""

    def _encode(self, batch: Sequence[Any]) -> bytes:
        return b"".join(batch)


async def send(
    file: Path,
    url: str,
    output_format: str | None,
    input_format: str | None,
    method: str,
    headers: Sequence[str],
    idle_seconds: float,
) -> None:
    """Upload a file and write the response to stdout; see the command's help."""
    if not is_token(method):
        raise click.BadParameter(f"expected a method such as POST, got {method!r}", param_hint="--method")
    if file == Path("-"):
        if input_format is None:
            raise UnknownFormat("stdin has no file name that shows its format: name the format with --from")
        file = Path("/dev/stdin")
    own_headers = parse_headers(headers)
    if hdrs.CONTENT_LENGTH in {name.title() for name in own_headers}:
        raise click.BadParameter(
            "a chunked request has no Content-Length: leave this header out", param_hint="--header"
        )
    found = await asyncio.to_thread(file.stat)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    own = FORMATS[input_format] if input_format else by_suffix(file.name)
    wanted = FORMATS[output_format] if output_format else own
    if is_websocket_url(url):
        # A WebSocket is opened with a GET request. POST is accepted and ignored, because it is the default of --method.
        if method not in ("POST", "GET"):
            raise click.BadParameter(
                f"a WebSocket needs GET, got {method}: leave this option out", param_hint="--method"
            )
        await _send_messages(file, url, own, wanted, own_headers, idle_seconds)
    elif wanted is own:
        unchanged = replace(own, encoder=_Unchanged)
        await _send_body(_Upload(file, None), file, url, unchanged, method, own_headers, idle_seconds, found.st_size)
    else:
        await _send_body(_Upload(file, own), file, url, wanted, method, own_headers, idle_seconds, None)


async def _send_body(
    upload: _Upload,
    file: Path,
    url: str,
    format: Format,
    method: str,
    headers: Mapping[str, str],
    idle_seconds: float,
    total_bytes: int | None,
) -> None:
    """Send a file as the body of a request, and write the body of the response."""
    payload = body(Batches(upload.lists()), format, stall_seconds=idle_seconds)
    counters = (lambda: upload.items_sent, lambda: payload.bytes_sent)
    timeout = ClientTimeout(total=None, connect=idle_seconds, sock_read=idle_seconds)
    try:
        async with (
            ClientSession(timeout=timeout) as session,
            progress(f"{file.name} to {url}", *counters, total_bytes, data_on_terminal=False),
            session.request(method, url, data=payload, headers=headers) as response,
        ):
            if response.status >= 400:
                raise await remote_error(response)
            await _write_response(response)
    except (ClientError, TruncatedError) as error:
        if payload.failure is None and isinstance(error, SocketTimeoutError):
            raise StalledError(f"the server sent no response for {idle_seconds:g} seconds") from error
        if payload.failure is None:
            raise
    finally:
        await payload.wait_closed()
    # If the upload failed, for example because the file could not be read, raise its error. Any other error is only a
    # consequence of it.
    if payload.failure is not None:
        raise payload.failure
    if not upload.is_whole:
        raise _not_read(file, upload.items_sent, payload.bytes_sent)


async def _send_messages(
    file: Path, url: str, own: Format, wanted: Format, headers: Mapping[str, str], idle_seconds: float
) -> None:
    """Send the items of a file over a WebSocket, and write the items of the response as NDJSON."""
    upload = _Upload(file, own)
    shows = sys.stdout.isatty()
    async with (
        ClientSession() as session,
        progress(f"{file.name} to {url}", lambda: upload.items_sent, lambda: 0, None, data_on_terminal=shows),
        open_stream(
            session, url, data=body(Batches(upload.lists()), wanted), headers=headers, idle_seconds=idle_seconds
        ) as stream,
        aclosing(Outbound(Batches(stream.batches()), FORMATS["ndjson"].encoder()).pieces()) as pieces,
    ):
        async for data in pieces:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    if not upload.is_whole:
        raise _not_read(file, upload.items_sent, 0)


def _not_read(file: Path, items: int, size: int) -> TruncatedError:
    """Return the error for a server that responded before it received the whole file."""
    return TruncatedError(
        f"the server responded before it received all of {file.name}", items_seen=items, bytes_seen=size
    )


async def _write_response(response: ClientResponse) -> None:
    count = 0
    try:
        async for data in response.content.iter_any():
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            count += len(data)
    except (ClientError, TimeoutError) as error:
        raise TruncatedError("the connection closed before the end of the response", bytes_seen=count) from error
