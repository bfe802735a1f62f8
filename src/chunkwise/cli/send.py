"""``chunkwise send``: a file -> a chunked upload."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import rich_click as click
from aiohttp import ClientError, ClientResponse, ClientSession, hdrs

from chunkwise.cli.get import is_token, parse_headers
from chunkwise.cli.progress import progress
from chunkwise.client.http import begun, sending, stream_timeout
from chunkwise.client.open_stream import is_websocket, open_stream
from chunkwise.client.upload import ClosingPayload, body
from chunkwise.errors import TruncatedError
from chunkwise.flow.outbound import Outbound
from chunkwise.formats import FORMATS, Format, by_suffix
from chunkwise.sources.batches import Batches
from chunkwise.sources.files import read_file
from chunkwise.transports.problems import remote_error

_BLOCK_BYTES = 256 * 1024


class _Upload:
    """The body of the request, counted."""

    def __init__(self, file: Path, own: Format, wanted: Format) -> None:
        self.bytes_sent = 0
        self.items_sent = 0
        self.whole = False
        self._file = file
        self._converted = Outbound(read_file(file, own), wanted.encoder()) if wanted is not own else None

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._converted.pieces() if self._converted else self._blocks()) as pieces:
            async for data in pieces:
                yield data
                self.bytes_sent += len(data)
                self.items_sent = self._converted.items_sent if self._converted else 0
        self.whole = True

    async def _blocks(self) -> AsyncGenerator[bytes, None]:
        with self._file.open("rb") as file:
            while data := await asyncio.to_thread(file.read, _BLOCK_BYTES):
                yield data


async def send(
    file: Path,
    url: str,
    output_format: str | None,
    input_format: str | None,
    method: str,
    headers: Sequence[str],
    idle_seconds: float,
) -> None:
    """Upload a file and write the answer to stdout; see the command's help."""
    if not is_token(method):
        raise click.BadParameter(f"got {method!r}, expected a word such as POST", param_hint="--method")
    if file == Path("-"):
        file = Path("/dev/stdin")
    own_headers = parse_headers(headers)
    if hdrs.CONTENT_LENGTH in {name.title() for name in own_headers}:
        raise click.BadParameter("got a Content-Length, which chunks have none of: leave it out", param_hint="--header")
    found = await asyncio.to_thread(file.stat)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    own = FORMATS[input_format] if input_format else by_suffix(file.name)
    wanted = FORMATS[output_format] if output_format else own
    if is_websocket(url):
        await _send_messages(file, url, own, wanted, method, own_headers, idle_seconds)
        return
    total = found.st_size if wanted is own else None
    upload = _Upload(file, own, wanted)
    payload = ClosingPayload(upload.pieces(), wanted)
    counters = (lambda: upload.items_sent, lambda: upload.bytes_sent)
    async with (
        ClientSession(timeout=stream_timeout(idle_seconds)) as session,
        sending(payload, idle_seconds),
        progress(f"{file.name} to {url}", *counters, total, data_on_terminal=False),
        await begun(session.request(method, url, data=payload, headers=own_headers)) as response,
    ):
        if response.status >= 400:
            raise await remote_error(response)
        await _write_answer(response)
    if payload.failure is not None:  # whatever a server has answered that did not wait for the end
        raise payload.failure
    if not upload.whole:
        raise _not_taken(file, upload.items_sent, upload.bytes_sent)


async def _send_messages(
    file: Path, url: str, own: Format, wanted: Format, method: str, headers: Mapping[str, str], idle_seconds: float
) -> None:
    """Send the items of a file over a WebSocket, and write those of the answer, a JSON text in each line."""
    if method not in ("POST", "GET"):  # the default, and what a WebSocket begins with
        raise click.BadParameter(f"got {method}, a WebSocket begins with GET", param_hint="--method")
    sent, whole = 0, False

    async def counted() -> AsyncGenerator[list[Any], None]:
        nonlocal sent, whole
        async with aclosing(aiter(read_file(file, own))) as batches:
            async for batch in batches:
                yield batch
                sent += len(batch)
        whole = True

    async with (
        ClientSession() as session,
        progress(f"{file.name} to {url}", lambda: sent, lambda: 0, None, data_on_terminal=sys.stdout.isatty()),
        open_stream(
            session,
            url,
            data=body(Batches(counted()), wanted),
            headers=headers,
            idle_seconds=idle_seconds,
        ) as stream,
        aclosing(Outbound(Batches(stream.batches()), FORMATS["ndjson"].encoder()).pieces()) as pieces,
    ):
        async for data in pieces:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    if not whole:
        raise _not_taken(file, sent, 0)


def _not_taken(file: Path, items: int, size: int) -> TruncatedError:
    """Return the error of a server that was content before the end."""
    return TruncatedError(f"the server answered before it had all of {file.name}", items_seen=items, bytes_seen=size)


async def _write_answer(response: ClientResponse) -> None:
    count = 0
    try:
        async for data in response.content.iter_any():
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            count += len(data)
    except (ClientError, TimeoutError) as error:
        raise TruncatedError("the answer was cut", bytes_seen=count) from error
