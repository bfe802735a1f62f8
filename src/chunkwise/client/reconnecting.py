"""A stream that broke -> the same stream, asked for again from the item on that is wanted next.

Must not know any one format, nor over what wire a stream comes.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import msgspec
from aiohttp import ClientError

from chunkwise.client.answer import Answer
from chunkwise.client.connect_errors import why_no_connection
from chunkwise.client.resume_point import Place, key_of, position_behind
from chunkwise.client.stream import Over, Stream
from chunkwise.errors import DecodeError, PathNotFound, RemoteError, StalledError, StreamError, TruncatedError
from chunkwise.flow.inbound import End
from chunkwise.formats.paths import PathLike, parse_path
from chunkwise.transports.range_headers import LAST_EVENT_ID, RangeInfo, ResumePoint

_TRIES = 10
_FIRST_PAUSE_SECONDS = 0.25  # doubled with each try that brings nothing
_MAX_PAUSE_SECONDS = 30.0
_LATER = (429, 502, 503, 504)  # RFC 9110 §15.6, RFC 6585 §4: said by who may answer better a little later

Connect = Callable[[Mapping[str, str]], AbstractAsyncContextManager[Answer]]
"""Asks for a stream, with these headers beside its own."""

_encoder = msgspec.json.Encoder()


class _Final(Exception):  # noqa: N818 - a signal inside of this file: users see TruncatedError
    """There is no rest that would be the rest of this stream: asking again does not help."""


class Policy(NamedTuple):
    """When a stream is given up; see `open_stream`."""

    max_reconnects: int | None
    max_reconnect_seconds: float
    restart: bool


def _tell_nobody(_: StreamError) -> None:
    pass


@asynccontextmanager
async def open_resuming(
    connect: Connect,
    path: PathLike,
    policy: Policy,
    position: ResumePoint | None = None,
    on_break: Callable[[StreamError], None] = _tell_nobody,
) -> AsyncIterator[ResumingStream]:
    """Ask for a stream, or for the rest of one; give what goes on with it until the ``async with`` ends.

    Args:
        connect: asks.
        path: which values are the items; see `items`.
        policy: when to give up.
        position: where to go on.
        on_break: called with what broke the stream before it is asked for again, once until a new item has come.
    """
    async with AsyncExitStack() as answers:  # each is closed before the next is asked for
        first = await answers.enter_async_context(connect(position.to_headers() if position is not None else {}))
        stream = ResumingStream(first, answers, connect, path, policy, position, on_break)
        try:
            yield stream
        finally:
            stream.leave()


class ResumingStream(Stream):
    """The items of an answer and, where it breaks, of those that follow on it, as one stream.

    Args:
        first: the answer.
        opened: what closes it, and then those that follow.
        connect: asks for the rest of it.
        path: which values are the items; see `items`.
        policy: when to give up.
        position: where it was asked to go on.
        on_break: see `open_resuming`.
    """

    end: End | None

    def __init__(
        self,
        first: Answer,
        opened: AsyncExitStack,
        connect: Connect,
        path: PathLike,
        policy: Policy,
        position: ResumePoint | None,
        on_break: Callable[[StreamError], None],
    ) -> None:
        super().__init__()
        self.reconnects: int = 0
        self._opened = opened
        self._connect = connect
        self._policy = policy
        self._on_break = on_break
        self._left = False
        self._tries = _TRIES if policy.max_reconnects is None else policy.max_reconnects
        self._parts = parse_path(path)
        self._key: dict[str, Any] | None = None  # of the last item
        self._digest = hashlib.blake2b() if policy.restart else None  # of the items given
        self._again = hashlib.blake2b()  # of those that came again
        self._to_skip = 0  # of those that come again
        self._fruitless = 0  # tries since the last new item
        self._trouble_since: float | None = None
        self._part = first
        self._asked: Place | None = None  # what the part has still to prove that it begins with
        self._given = 0  # items
        self._items_before = 0  # where the part begins
        self._records_before = 0
        self._bytes_before = 0
        self._first_event_id = ""
        self._event_id = ""
        self._format_name: str | None = None
        self._position = position
        if position is None:
            self._asked = Place({}, 0, RangeInfo())
        else:
            self._given = self._items_before = self._records_before = position.items
            self._asked = Place({}, position.items, RangeInfo(0, True, position.etag, tuple(position.key)))  # noqa: FBT003

    @property
    def over(self) -> Over:
        """See `Stream.over`."""
        return self._part.over

    @property
    def items_seen(self) -> int:
        """Items that came whole so far; none counts twice."""
        return self._given

    @property
    def start(self) -> RangeInfo | None:
        """What is known of the beginning of the answer at hand."""
        return self._part.start

    @property
    def bytes_seen(self) -> int:
        """Bytes that came so far, after decompression, those that came again among them."""
        return self._bytes_before + self._part.bytes_seen

    def leave(self) -> None:
        """Ask for nothing any more: nobody would close what comes."""
        self._left = True

    async def _batches(self) -> AsyncIterator[list[Any]]:
        try:
            async for batch in self._answers():
                yield batch
        except _Final as final:
            name = getattr(self._part.decoder, "name", None)
            raise self._placed(TruncatedError(str(final), format=name)) from final.__cause__

    async def _answers(self) -> AsyncIterator[list[Any]]:
        goes_on = True
        while goes_on:
            try:
                async for batch in self._part.batches():
                    if new := self._take(batch):
                        yield new
                self._check_end()
                self._check_is_all()
            except PathNotFound:
                if not self._given:  # it is not required of each rest
                    raise
                goes_on = False
            except StreamError as error:
                failure = self._placed(error)
                if not self._is_a_break(error):
                    raise failure from error.__cause__
                goes_on = await self._go_on(failure)
            else:
                goes_on = False
        self.end = self._part.end or "framed"

    def _take(self, batch: list[Any]) -> list[Any]:
        """Count the items that are new, and pass over the others."""
        if self._asked is not None:
            self._check_start(self._asked)
        name = getattr(self._part.decoder, "name", None)
        if self._format_name not in (None, name):
            raise _Final(f"the rest is of another format: {name}, not {self._format_name}")
        self._format_name = name
        skipped, new = batch[: self._to_skip], batch[self._to_skip :]
        if skipped:
            self._to_skip -= len(skipped)
            self._again.update(_encoder.encode_lines(skipped))
            if not self._to_skip and self._digest is not None and self._again.digest() != self._digest.digest():
                raise _Final(f"the first {self._given} items are others than before: the rest would not follow on them")
        if new:
            self._given += len(new)
            self._key = key_of(new[-1], self._known_start().key)
            self._fruitless, self._trouble_since = 0, None
            if self._digest is not None:
                self._digest.update(_encoder.encode_lines(new))
        return new

    def _check_end(self) -> None:
        if self._asked is not None:
            self._check_start(self._asked)
        if self._to_skip:
            came = self._given - self._to_skip
            raise _Final(f"there are only {came} items now, {self._given} came before: the source has changed")

    def _check_is_all(self) -> None:
        """Raise TruncatedError, as for any break, if a part is less than it says, or not the last (RFC 9110 §14.4)."""
        start, came = self._known_start(), self._record()
        if start.last is None or came is None:
            return
        if came > start.last + 1:
            raise _Final(f"the server gave {came - start.first} items, and had told of those up to {start.last}")
        if came <= start.last:
            told = f"the server gave items {start.first} to {came - 1} of those up to {start.last} that it told of"
        elif start.total is None or start.last + 1 < start.total:
            told = f"the server gave a part that ends with item {start.last} of {start.total or 'an unknown number'}"
        else:
            return
        raise TruncatedError(told, format=getattr(self._part.decoder, "name", None))

    def _placed(self, error: StreamError) -> StreamError:
        """Let an error of the part speak of the whole."""
        if isinstance(error, TruncatedError):
            error.items_seen, error.bytes_seen = self._given, self.bytes_seen
        elif isinstance(error, StalledError):
            error.item_index, error.byte_offset = self._given, self.bytes_seen
        elif isinstance(error, DecodeError) and error.item_index is not None:
            error.item_index += self._items_before
        return error

    def _is_a_break(self, error: StreamError) -> bool:
        if isinstance(error, RemoteError):
            return error.status in _LATER
        return isinstance(error, (TruncatedError, StalledError))

    async def _go_on(self, failure: StreamError) -> bool:
        """Ask until there is a rest; return whether there is one, or all has come."""
        self._check_left(failure)
        place = self._place()
        if place is None:
            expected = self._policy.max_reconnects is not None or self._known_start().ranges
            if expected and isinstance(failure, TruncatedError):
                failure.message += f"; it cannot go on: {self._why_not()}"
            raise failure
        now = asyncio.get_running_loop().time
        told = self._trouble_since is not None
        since = self._trouble_since = self._trouble_since or now()
        trouble: Exception = failure
        while True:
            pause = self._pause(trouble)
            if self._fruitless >= self._tries or (now() - since + pause > self._policy.max_reconnect_seconds):
                raise self._given_up(failure, trouble, now() - since)
            if not told:
                told = True
                self._on_break(failure)
            await asyncio.sleep(pause)
            self._check_left(failure)
            self._fruitless += 1
            self.reconnects += 1
            await self._opened.aclose()
            try:
                part = await self._opened.enter_async_context(self._connect(place.headers))
            except RemoteError as error:
                if error.status == 416:
                    raise _Final(f"the source has less than {self._given} items now: {error}") from error
                if error.status not in _LATER:
                    error.message += f", asked to go on behind {self._given} items"
                    raise
                trouble = error
            except (StalledError, ClientError, OSError) as error:
                trouble = error
            else:
                if self._left:  # meanwhile, so that nobody else closes it
                    await self._opened.aclose()
                self._check_left(failure)
                return self._use(part, place)

    def _check_left(self, failure: StreamError) -> None:
        if self._left:
            told = "its `async with` has closed the stream: read it inside of that"
            raise self._placed(TruncatedError(told, format=self._format_name)) from failure

    def _use(self, part: Answer, place: Place) -> bool:
        """Take over an answer; return whether there is anything in it."""
        self._bytes_before = self.bytes_seen
        self._part = part
        self._items_before, self._records_before = self._given, place.record
        self._asked = place
        status = part.empty_status
        if status is not None and self._given and not (status == 204 and place.by_event):  # WHATWG HTML §9.2.3
            raise _Final(f"asked to go on with item {self._given}, the server answered {status}, which has no content")
        if status is not None:
            return False
        if part.start is not None and not place.by_event:
            self._check_start(place)
        return True

    def _check_start(self, place: Place) -> None:
        """See whether the part is what was asked for.

        Raises:
            _Final: it is not.
        """
        self._asked = None
        start, known = self._part.start or RangeInfo(), place.start
        if start.etag != known.etag and self._given and known.etag is not None:
            raise _Final(f"the items have changed meanwhile: the ETag was {known.etag}, now it is {start.etag}")
        begins_again = place.by_event and self._part.first_event_id == place.first_event_id != ""
        if not begins_again and (place.by_event or start.first == place.record):
            return
        if start.first == 0 and self._policy.restart:
            self._items_before = self._records_before = 0
            self._to_skip = self._given
            self._again = hashlib.blake2b()
            return
        told = f"asked to go on with item {self._given}, the server began with item {start.first}"
        raise _Final(f"{told}: it cannot resume (restart=True lets it begin again)")

    def _place(self) -> Place | None:
        """Return where to go on, and the headers that ask for it; None if that is not possible."""
        start = self._known_start()
        if self._given == 0 and (start.ranges or self._policy.restart):
            return Place({}, 0, start)
        record = self._record()
        if start.ranges and record is not None and not self._to_skip and not (start.key and self._parts):
            known = self._position if self._position is not None and self._position.items == record else None
            behind = known or position_behind(record, self._key, start)
            if behind is not None:
                return Place(behind.to_headers(), record, start)
        elif not start.ranges and self._policy.max_reconnects is not None and (last := self._last_event_id()):
            first = self._first_event_id = self._first_event_id or self._part.first_event_id
            return Place({LAST_EVENT_ID: last}, record or 0, start, by_event=True, first_event_id=first)
        return Place({}, self._given, start) if self._policy.restart else None

    def _last_event_id(self) -> str:
        """Return the id of the last event, or nothing if it has none; of those before, if none came since."""
        if self._part.whole_records:
            self._event_id = ""
        self._event_id = self._part.id_to_go_on_behind or self._event_id
        return self._event_id

    def _record(self) -> int | None:
        """Return how many records came whole with all that was selected in them; None if that cannot be said."""
        if self._parts is None:
            return self._given
        whole = self._part.whole_records
        return None if whole is None else self._records_before + whole

    def _known_start(self) -> RangeInfo:
        # A WebSocket that broke before its first message has told nothing; what it was asked for is still known.
        return self._part.start or (self._asked.start if self._asked is not None else RangeInfo())

    def _why_not(self) -> str:
        start = self._known_start()
        if not start.ranges:
            return "the server offers no ranges of items (restart=True lets it begin again)"
        if self._record() is None or (start.key and self._parts):
            return "the path selects inside of items, so that nobody knows which of them were whole"
        told = f"its items have no {', '.join(start.key)} as the server sent it, by which it would find the place"
        return f"{told} (type= has to leave it a string or a number)"

    def _pause(self, trouble: Exception) -> float:
        first = self._part.retry_seconds or _FIRST_PAUSE_SECONDS
        # Full jitter: those that were cut together must not come again together.
        pause = random.uniform(0, min(_MAX_PAUSE_SECONDS, first * 2 ** min(self._fruitless, 16)))  # noqa: S311
        return max(pause, getattr(trouble, "retry_after_seconds", None) or 0.0)

    def _given_up(self, failure: StreamError, trouble: Exception, seconds: float) -> StreamError:
        tried = f"{self._fruitless} {'try' if self._fruitless == 1 else 'tries'} in {seconds:.1f} s"
        told = failure.message if trouble is failure else why_no_connection(trouble) or str(trouble)
        given_up = TruncatedError(f"{told}; given up after {tried}", format=failure.format or self._format_name)
        given_up.__cause__ = trouble
        return self._placed(given_up)
