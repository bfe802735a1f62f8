"""A TCP connection -> how many bytes wait for the other side, and a reset if the other side stops reading."""

import asyncio
import select
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Protocol

from chunkwise.errors import StalledError
from chunkwise.transports.periodic_checks import CHECK_SECONDS, PeriodicChecks

if sys.platform == "linux":
    from fcntl import ioctl
    from termios import TIOCOUTQ

POLL_SECONDS = 0.02
CHECKS = 8
"""How many times a connection is checked within ``stall_seconds``."""


class Connection(Protocol):
    """The methods of asyncio's transports that a `StallWatch` needs."""

    def is_closing(self) -> bool: ...
    def get_write_buffer_size(self) -> int: ...
    def abort(self) -> None: ...


def unsent_bytes(connection: socket.socket) -> int | None:
    """Return how many bytes the other side's kernel has not received yet; None if the system does not report it."""
    if sys.platform != "linux" or connection.fileno() < 0:
        return None
    return int.from_bytes(ioctl(connection.fileno(), TIOCOUTQ, b"\0\0\0\0"), sys.byteorder)


def silent_seconds(connection: socket.socket) -> float | None:
    """Return how many seconds ago the last byte arrived; None if the system does not report it."""
    if sys.platform != "linux" or connection.fileno() < 0:
        return None
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 56)
    # The field tcpi_last_data_recv is at byte 52, and counts milliseconds.
    return float(struct.unpack_from("I", info, 52)[0]) / 1000


def stalled_upload(stall_seconds: float) -> StalledError:
    """Return the error for a server that has read nothing of an upload for ``stall_seconds``."""
    return StalledError(f"the server read nothing of the upload for {stall_seconds:g} seconds")


def reset_when_closed(connection: socket.socket | None, *, yes: bool) -> None:
    """Choose how a connection is closed later: with a reset (RST), which discards unsent bytes, or in order (FIN)."""
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", yes, 0))


def drop(transport: Connection, connection: socket.socket | None) -> None:
    """Reset a connection, and discard all bytes that wait for the other side, also those in the kernel."""
    reset_when_closed(connection, yes=True)
    # asyncio's TLS transport raises AttributeError after a second close (Python 3.11.2), and cannot be aborted then.
    with suppress(AttributeError):
        transport.abort()


class StallWatch:
    """Drops a connection if the other side receives nothing for ``stall_seconds`` while bytes wait for it.

    A byte counts as received when it has left the transport's buffer and the kernel's send queue. The event loop
    reports progress too late: only when a third of the queue is free, which can take minutes with a slow reader.

    Args:
        transport: the transport of the connection.
        connection: its socket, if it has one.
        stall_seconds: the time limit; 0 for no limit.
        written: returns how many bytes were written to the transport so far.

    Attributes:
        stalled: whether the time limit was exceeded, and the connection dropped.
    """

    def __init__(
        self, transport: Connection, connection: socket.socket | None, stall_seconds: float, written: Callable[[], int]
    ) -> None:
        self.stalled: bool = False
        self._transport = transport
        self._written = written
        self._stall_seconds = stall_seconds
        self._socket = connection
        self._taken = 0
        self._waits = False  # whether bytes were waiting for the other side at the last check
        self._since = monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._check_seconds = max(POLL_SECONDS, stall_seconds / CHECKS) if stall_seconds else CHECK_SECONDS
        self._checks = PeriodicChecks.of_loop()
        if self._check_seconds >= CHECK_SECONDS:
            self._checks.join(self)
        else:
            self._wait()

    def waiting(self) -> int:
        """Return how many bytes the other side has not received yet."""
        unsent = unsent_bytes(self._socket) if self._socket is not None else None
        buffered = 0
        # asyncio's TLS transport raises AttributeError after a second close. Its buffer is then not counted.
        with suppress(AttributeError):
            buffered = self._transport.get_write_buffer_size()
        return buffered + (unsent or 0)

    async def taken(self, *, most_bytes: int = 0, seconds: float | None = None) -> bool:
        """Wait until no more than ``most_bytes`` are waiting for the other side; return True then.

        Return False if the connection closes first, or if ``seconds`` pass first.
        """
        stop = None if seconds is None else monotonic() + seconds
        pause = 0.001
        # No event reports that the other side has received bytes, so this loop polls.
        while self.waiting() > most_bytes:
            if self._transport.is_closing() or (stop is not None and monotonic() >= stop):
                return False
            await asyncio.sleep(pause)
            pause = min(2 * pause, POLL_SECONDS)
        return True

    def has_left(self) -> bool:
        """Whether the other side has closed or reset the connection.

        This is noticed even if no code reads from the connection.
        """
        events = getattr(select, "POLLRDHUP", 0)  # only Linux has POLLRDHUP; poll() reports resets without it
        if self._socket is None or not hasattr(select, "poll") or self._socket.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(self._socket.fileno(), events)
        return bool(poll.poll(0))

    def end(self) -> None:
        """Stop watching the connection."""
        if self._timer is not None:
            self._timer.cancel()
        self._checks.leave(self)

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._check_seconds, self._check_again)

    def _check_again(self) -> None:
        self._timer = None
        if self.check():
            self._wait()

    def check(self) -> bool:
        """Check the connection; return whether it needs another check."""
        if self._transport.is_closing():
            # aiohttp closes the transport when the client has closed its side of the connection. The transport then
            # tries to send the bytes in its buffer, which never ends if the client does not read. A reset drops them.
            drop(self._transport, self._socket)
            self.end()
            return False
        written = self._written()
        if not self._waits and written == self._taken:
            return True  # everything written has been received, so the system need not be asked: the usual case
        waiting = self.waiting()
        taken = written - waiting
        if not waiting or taken > self._taken or not self._waits:
            self._since = monotonic()
        elif self._stall_seconds and monotonic() - self._since >= self._stall_seconds:
            self.stalled = True
            drop(self._transport, self._socket)
            self.end()
            return False
        self._taken, self._waits = taken, bool(waiting)
        return True
