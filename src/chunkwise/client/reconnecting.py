"""A stream whose connection breaks -> the same stream, continued after the last item that has arrived."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import Any

from aiohttp import ClientError

from chunkwise.client.response_items import ResponseItems
from chunkwise.client.resume_point import Policy, Received, Replay, RestRequest, key_of
from chunkwise.client.stream import Stream
from chunkwise.errors import PathNotFound, RemoteError, StalledError, StreamError, TruncatedError
from chunkwise.flow.inbound import EndProof
from chunkwise.formats.paths import PathLike
from chunkwise.transports.connect_errors import why_no_connection
from chunkwise.transports.range_headers import RangeInfo

_TRIES = 10
# The pause before the first try is random, and at most this long. Each further try without a new item doubles the
# longest pause.
_FIRST_PAUSE_SECONDS = 0.25
_MAX_PAUSE_SECONDS = 30.0
# After a response with one of these statuses, a later request may succeed (RFC 9110 §15.6, RFC 6585 §4).
_TRY_LATER = (429, 502, 503, 504)

Connect = Callable[[Mapping[str, str]], AbstractAsyncContextManager[ResponseItems]]
"""A function that sends the request with additional headers."""


class _CannotContinueError(Exception):
    """The stream cannot be continued, even by another request. It is converted to a TruncatedError for the user."""


@asynccontextmanager
async def open_reconnecting(connect: Connect, path: PathLike, policy: Policy) -> AsyncIterator[Stream]:
    """Request a stream, or its items after ``resume_from``, and continue it after disconnects.

    No more requests are sent after the end of the ``async with`` block.
    """
    received = Received(path, policy)
    first_request = received.first_request()
    # The stack contains only the current response: the stream closes it before the next request.
    async with AsyncExitStack() as responses:
        first = await responses.enter_async_context(connect(first_request.headers))
        stream = ReconnectingStream(first, first_request, received, responses, connect, policy)
        try:
            yield stream
        finally:
            stream.leave()


class Outage:
    """From a disconnect until a new item arrives, counts the tries to continue the stream, and the seconds."""

    def __init__(self, policy: Policy) -> None:
        self.tries: int = 0
        self._max_tries = _TRIES if policy.max_reconnects is None else policy.max_reconnects
        self._max_seconds = policy.max_reconnect_seconds
        self.may_try: bool = self._max_tries > 0
        self._since: float | None = None

    def begin(self) -> bool:
        """Note a disconnect; return whether it is the first one since the last new item."""
        is_new = self._since is None
        if is_new:
            self._since = monotonic()
        return is_new

    def end(self) -> None:
        """Note that a new item has arrived."""
        self.tries, self._since = 0, None

    @property
    def seconds(self) -> float:
        """The seconds since the first disconnect after the last new item; 0 if no disconnect occurred."""
        return 0.0 if self._since is None else monotonic() - self._since

    def next_pause(self, first_pause: float | None, retry_after: float | None) -> float | None:
        """Return the seconds to wait before the next try, at least ``retry_after``; None if no more try is allowed."""
        longest = (first_pause or _FIRST_PAUSE_SECONDS) * 2 ** min(self.tries, 16)
        # The pause is random ("full jitter"), so that clients that were disconnected at the same time do not all
        # reconnect at the same time.
        pause = max(random.uniform(0, min(_MAX_PAUSE_SECONDS, longest)), retry_after or 0.0)  # noqa: S311
        return None if self.tries >= self._max_tries or self.seconds + pause > self._max_seconds else pause

    def __str__(self) -> str:
        return f"{self.tries} {'try' if self.tries == 1 else 'tries'} in {self.seconds:.1f} s"


class ReconnectingStream(Stream):
    """The items of a response and, after a disconnect, of the responses that continue it.

    Args:
        first: the items of the first response.
        rest: the request for ``first``, with the position at which this response has to begin.
        received: the counters of items and bytes.
        responses: closes the current response.
        connect: sends the next request.
        policy: when and how to continue.
    """

    end: EndProof | None
    reconnects: int

    def __init__(
        self,
        first: ResponseItems,
        rest: RestRequest,
        received: Received,
        responses: AsyncExitStack,
        connect: Connect,
        policy: Policy,
    ) -> None:
        super().__init__(first, counts_records=received.counts_records)
        self._received = received
        self._responses = responses
        self._connect = connect
        self._policy = policy
        self._outage = Outage(policy)
        self._replay = Replay() if policy.restart else None
        # This says how the current response has to begin. It is None after this has been checked.
        self._rest: RestRequest | None = rest
        self._format_name: str | None = None
        # This is True until the first batch of the current response has arrived.
        self._is_first_batch = True
        self._has_left = False

    @property
    def items_seen(self) -> int:
        return self._received.items

    @property
    def bytes_seen(self) -> int:
        return self._received.bytes_seen(self._response)

    def leave(self) -> None:
        """Send no more requests, because the ``async with`` has ended and nothing would close their responses."""
        self._has_left = True

    async def _batches(self) -> AsyncIterator[list[Any]]:
        goes_on = True
        try:
            while goes_on:
                try:
                    async for batch in self._response.batches():
                        if new := self._take(batch):
                            yield new
                    self._check_end()
                    goes_on = False
                except PathNotFound:
                    # After a disconnect, the path may select nothing in the rest of the stream. This is an error only
                    # if no item arrived before.
                    if not self.items_seen:
                        raise
                    goes_on = False
                except StreamError as error:
                    self._received.locate(error, self._response)
                    if not _is_break(error):
                        raise
                    goes_on = await self._reconnect(error)
        except _CannotContinueError as error:
            raise self._truncated(str(error)) from error.__cause__
        self.end = self._response.end or "framed"

    def _take(self, batch: list[Any]) -> list[Any]:
        """Count the new items, and skip items that had already arrived."""
        if self._is_first_batch:
            self._is_first_batch = False
            self._check_start()
            name = self._response.format_name
            if self._format_name not in (None, name):
                raise _CannotContinueError(f"the rest of the stream is in format {name}, expected {self._format_name}")
            self._format_name = name
        if self._replay is not None:
            batch, same = self._replay.skip(batch)
            if not same:
                count = self.items_seen
                raise _CannotContinueError(f"the first {count} items have changed, so the stream cannot be continued")
        if batch:
            self._received.items += len(batch)
            self._outage.end()
            if names := self._known_info().key:
                self._received.key = key_of(batch[-1], names)
        return batch

    def _check_start(self) -> None:
        """Check once that the response begins with the item that was requested."""
        rest, self._rest = self._rest, None
        if rest is None:
            return
        info, count = self._response.range_info or RangeInfo(), self.items_seen
        if (count or rest.headers) and rest.info.etag not in (None, info.etag):
            raise _CannotContinueError(f"the items have changed: got the ETag {info.etag}, expected {rest.info.etag}")
        if rest.headers and not rest.by_event and info.first and info.key != rest.info.key:
            was, now = (", ".join(names) or "its index" for names in (rest.info.key, info.key))
            raise _CannotContinueError(f"the server now identifies an item by {now}, not by {was} as before")
        starts_over = rest.by_event and self._response.first_event_id == rest.first_event_id != ""
        if not starts_over and (rest.by_event or info.first == rest.record):
            return
        if info.first != 0 or self._replay is None:
            hint = "" if info.first else " (restart=True allows a start at item 0)"
            raise _CannotContinueError(
                f"requested the rest from item {count}, but the server started at item {info.first}: "
                f"the server cannot resume{hint}"
            )
        self._received.start_over()
        self._replay.start(count)

    def _check_end(self) -> None:
        """Check that the response had all items of its Content-Range, and that the source has none after them.

        If items are missing, raise a `TruncatedError`. The rest is then requested, as after a disconnect.
        See RFC 9110 §14.4.
        """
        self._check_start()
        if self._replay is not None and self._replay.remaining:
            count = self.items_seen
            raise _CannotContinueError(
                f"the source has changed: got {count - self._replay.remaining} items, expected at least {count}"
            )
        info, records = self._known_info(), self._received.records(self._response)
        last = info.total - 1 if info.last is None and info.total is not None else info.last
        if last is None or records is None:
            return
        sent = f"got items {info.first} to {records - 1}, expected items up to {last} (Content-Range)"
        if records > last + 1:
            raise _CannotContinueError(sent)
        if records <= last:
            raise self._truncated(sent)
        if info.total is None or last + 1 < info.total:
            total = info.total or "an unknown number of"
            raise self._truncated(f"the response ends with item {last}, but the source has {total} items")

    async def _reconnect(self, failure: StreamError) -> bool:
        """Request the rest of the stream until a response arrives, with pauses; return whether it has content."""
        self._check_left(failure)
        rest = self._rest_request(failure)
        is_new = self._outage.begin()
        trouble: Exception = failure
        while True:
            retry_after = getattr(trouble, "retry_after_seconds", None)
            pause = self._outage.next_pause(self._response.retry_seconds, retry_after)
            if pause is None:
                raise self._given_up(failure, trouble)
            if is_new and self._policy.on_reconnect is not None:
                self._policy.on_reconnect(failure)
            is_new = False
            await asyncio.sleep(pause)
            self._check_left(failure)
            self._outage.tries += 1
            self.reconnects += 1
            await self._responses.aclose()
            try:
                response = await self._responses.enter_async_context(self._connect(rest.headers))
            except RemoteError as error:
                if error.status == 416:
                    message = f"the source now has fewer than {self.items_seen} items: {error}"
                    raise _CannotContinueError(message) from error
                if error.status not in _TRY_LATER:
                    error.message += f", to the request for the rest after {self.items_seen} items"
                    raise
                trouble = error
            except (StalledError, ClientError, OSError) as error:
                trouble = error
            else:
                # If the caller left the `async with` while the request was being sent, close the response here.
                if self._has_left:
                    await self._responses.aclose()
                self._check_left(failure)
                return self._use(response, rest)

    def _rest_request(self, failure: StreamError) -> RestRequest:
        """Return the request for the rest of the stream.

        If the stream cannot be continued, raise ``failure``, the error that interrupted it.
        """
        if not self._outage.may_try:
            raise failure
        info = self._known_info()
        replaying = self._replay is not None and self._replay.remaining > 0
        rest = self._received.rest_request(self._response, info, replaying=replaying)
        if rest is None:
            if isinstance(failure, TruncatedError) and (info.ranges or self._policy.max_reconnects is not None):
                failure.message += f"; cannot resume: {self._received.why_no_request(self._response, info)}"
            raise failure
        return rest

    def _use(self, response: ResponseItems, rest: RestRequest) -> bool:
        """Continue the stream with ``response``; return whether the response has content."""
        self._received.begin_response(self._response, rest.record)
        self._response, self._rest, self._is_first_batch = response, rest, True
        status = response.empty_status
        if status is not None:
            # For a stream of server-sent events, status 204 means that it is complete (WHATWG HTML §9.2.3).
            if self.items_seen and not (status == 204 and rest.by_event):
                raise _CannotContinueError(
                    f"requested the rest from item {self.items_seen}, got status {status}, which has no content"
                )
            return False
        if response.range_info is not None and not rest.by_event:
            self._check_start()
        return True

    def _known_info(self) -> RangeInfo:
        # Over a WebSocket, the server sends the position of the items with the first message. If a disconnect occurs
        # before this message, use the position that the response before the reconnect sent.
        return self._response.range_info or (self._rest.info if self._rest is not None else RangeInfo())

    def _check_left(self, failure: StreamError) -> None:
        if self._has_left:
            raise self._truncated("the stream is closed: read it inside its `async with`") from failure

    def _truncated(self, message: str) -> TruncatedError:
        name = self._response.format_name or self._format_name
        return TruncatedError(message, items_seen=self.items_seen, bytes_seen=self.bytes_seen, format=name)

    def _given_up(self, failure: StreamError, trouble: Exception) -> StreamError:
        reason = failure.message if trouble is failure else why_no_connection(trouble) or str(trouble)
        error = self._truncated(f"{reason}; gave up after {self._outage}")
        error.format = failure.format or self._format_name
        error.__cause__ = trouble
        return error


def _is_break(error: StreamError) -> bool:
    """Return whether a later request may return the rest of a stream that ended with this error."""
    if isinstance(error, RemoteError):
        return error.status in _TRY_LATER
    return isinstance(error, (TruncatedError, StalledError))
