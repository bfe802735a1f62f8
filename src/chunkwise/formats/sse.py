"""Server-sent events (WHATWG HTML §9.2) <-> items: an event has the JSON text of an item and its index as id.

For events with types, with other ids, or with data that is not JSON, use `ServerSentEvent`: yield such events to send
them, and pass ``type=ServerSentEvent`` to read them. The format cannot prove its end: without an end record, a stream
that was cut between two events looks complete.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import msgspec

from chunkwise.errors import DecodeError, EncodeError, LimitError, TruncatedError
from chunkwise.formats.contract import STREAM_END, EndRecordMarks, Format
from chunkwise.formats.parsing.json_values import LivePart, encode_lines, encode_value
from chunkwise.formats.parsing.record_encoder import RecordEncoder
from chunkwise.formats.parsing.stream_decoder import LineSplitter, RecordDecoder
from chunkwise.formats.paths import PathLike
from chunkwise.formats.speedups import event_texts, whole_bytes

__all__ = ["ServerSentEvent"]

_line_end = re.compile(r"\r\n|\r|\n")
_END_RECORD = EndRecordMarks(before=f"event: {STREAM_END}\ndata: ".encode(), after=b"\n\n", comment=b":")


class ServerSentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event with all its fields.

    Attributes:
        data: any text.
        event: the type of the event, ``"message"`` by default.
        id: the id of the event. On sending, None means the index of the item. On reading, it is the last id that the
            stream has set, in this event or an earlier one.
        retry: how many milliseconds clients wait before they reconnect; None if the event does not set it.
    """

    data: str
    event: str = "message"
    id: str | None = None
    retry: int | None = None


def value_of(item: Any) -> Any:
    """Return the data of a `ServerSentEvent`, decoded if it is JSON, else as text. Return other items unchanged."""
    if not isinstance(item, ServerSentEvent):
        return item
    try:
        return msgspec.json.decode(item.data)
    except (msgspec.DecodeError, RecursionError):
        return item.data


class SseEncoder(RecordEncoder):
    """Items -> events with the JSON text of the item in ``data`` and its index in ``id``."""

    after = b"\n\n"
    end_record: EndRecordMarks | None = _END_RECORD

    def _encode(self, batch: Sequence[Any]) -> bytes:
        if ServerSentEvent in map(type, batch):
            return b"".join([self._event(item, index) for index, item in enumerate(batch)])
        texts = encode_lines(batch, self._count).split(b"\n")
        texts.pop()  # the part after the last line end is empty
        if self._key:
            ids = [self._id(item, place) for place, item in enumerate(batch)]
            return b"id: %b\ndata: %b\n\n" * len(texts) % tuple(chain.from_iterable(zip(ids, texts, strict=True)))
        # One formatting call for all events takes half the time of one call for each event.
        numbered = enumerate(texts, self._first + self._count)
        return b"id: %d\ndata: %b\n\n" * len(texts) % tuple(chain.from_iterable(numbered))

    def _id(self, item: Any, place: int) -> bytes:
        """Return the id of an event: the item's index and, if the source has a key, the item's values of the key."""
        index = self._first + self._count + place
        if not self._key:
            return b"%d" % index
        try:
            return b"%d %b" % (index, encode_value([item[name] for name in self._key]))
        except (TypeError, KeyError):
            message = f"the item lacks a member of the key of the source, expected {' and '.join(self._key)}"
            raise EncodeError(message, item_index=self._count + place) from None

    def _event(self, item: Any, place: int) -> bytes:
        index = self._count + place
        if type(item) is not ServerSentEvent:
            try:
                return b"id: %b\ndata: %b\n" % (self._id(item, place), encode_lines([item], index))
            except LivePart:
                raise LivePart(place) from None
        name = self._id(value_of(item) if self._key else item, place).decode() if item.id is None else item.id
        for label, text in (("data", item.data), ("event", item.event), ("id", name)):
            if not isinstance(text, str):
                raise EncodeError(f"{label} of an event must be a str, got {type(text).__name__}", item_index=index)
            if label != "data" and (_line_end.search(text) or "\0" in text):
                message = f"{label} of an event must not contain a line end or NUL, got {text!r}"
                raise EncodeError(message, item_index=index)
        if self._end is not None and item.event == STREAM_END:
            message = f"event type {STREAM_END!r} is reserved for the end record: use another type"
            raise EncodeError(message, item_index=index)
        lines = [f"id: {name}"]
        if item.event != "message":
            lines.append(f"event: {item.event}")
        if item.retry is not None:
            if type(item.retry) is not int or item.retry < 0:
                message = f"retry of an event must be an int >= 0 (milliseconds), got {item.retry!r}"
                raise EncodeError(message, item_index=index)
            lines.append(f"retry: {item.retry}")
        lines += [f"data: {line}" for line in _line_end.split(item.data)]
        try:
            return ("\n".join(lines) + "\n\n").encode()
        except UnicodeEncodeError:
            message = "the event contains a lone surrogate, which UTF-8 cannot encode"
            raise EncodeError(message, item_index=index) from None

    def open_item(self) -> bytes:
        return b"id: %d\ndata: " % (self._first + self._count) + super().open_item()


@dataclass(slots=True)
class _OpenEvent:
    """The fields received so far of an incomplete event: the blank line that ends it was not received yet."""

    data: list[bytes] = field(default_factory=list)
    data_bytes: int = 0
    event: bytes = b""
    id: bytes | None = None
    retry: int | None = None
    begun: bool = False  # whether the event has any field

    def add(self, line: bytes, max_data_bytes: int) -> None:
        """Add the field in a line; ignore a comment."""
        name, _, value = line.partition(b":")
        if not name:
            return  # a line that begins with a colon is a comment
        self.begun = True
        value = value.removeprefix(b" ")
        if not value.isascii():
            value = value.decode("utf-8", "replace").encode()
        if name == b"data":
            self.data.append(value)
            self.data_bytes += len(value) + 1
            if (size := self.data_bytes - 1) > max_data_bytes:
                expected = f"expected no more than {max_data_bytes} (max_item_bytes)"
                raise LimitError(f"got an event of at least {size} data bytes, {expected}")
        elif name == b"event":
            self.event = value
        elif name == b"id" and b"\0" not in value:
            self.id = value
        elif name == b"retry" and value.isdigit():
            self.retry = int(value[:18])


class SseDecoder(RecordDecoder):
    """An event stream in chunks -> the decoded data of each event, or `ServerSentEvent` objects if that is the type.

    ``emit_empty`` says whether to return `ServerSentEvent` objects for events without a data line. The standard drops
    such events, but some language-model services send them.
    """

    name = "sse"
    checks_utf8 = False  # invalid bytes are no error, but become U+FFFD (WHATWG HTML §9.2.5)

    def __init__(self, path: PathLike = "", *, emit_empty: bool = False, **options: Any) -> None:
        super().__init__(path, **options)
        # The first id in the stream. If the response to a reconnection begins with this id again, the server has
        # ignored ``Last-Event-ID`` and sends all events again.
        self.first_event_id: str = ""
        # The last id in the stream. A client that reconnects sends it as ``Last-Event-ID``.
        self.last_event_id: str = ""
        # Whether the last event with data has an id. If not, a client cannot continue the stream after this event.
        self.is_behind_id: bool = False
        # How many milliseconds a client waits before it reconnects; None if the stream has not set this time.
        self.retry: int | None = None
        self._whole = self._type is ServerSentEvent
        if self._whole and self._parts:
            msg = f"path cannot be used with type=ServerSentEvent, which does not decode JSON; got path={path!r}"
            raise TypeError(msg)
        self._emit_empty = emit_empty
        self._lines = LineSplitter(self._limits.max_line_bytes, "max_line_bytes")
        self._after_cr = False
        self._event = _OpenEvent()

    def _decode(self, data: bytes, out: list[Any]) -> None:
        # WHATWG HTML §9.2.6: lines end with CR LF, LF or CR. A CR ends its line at once. An LF directly after a CR is
        # part of the same line end, even if it is received later.
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        offset = self.bytes_seen - len(data)
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if run := self._lines.feed(data, offset):
            self._take_run(run, out)
        self._lines.check()

    def _take_run(self, run: bytes, out: list[Any]) -> None:
        """Decode the events in ``run``, which consists of complete lines."""
        last = run.rfind(b"\n\n")
        if last >= 0 and not self._whole:
            # Most events are decoded in one call. Only these are read line by line: an event whose first lines were
            # received earlier; an incomplete event at the end; and the first event of ``run`` if `first_event_id` is
            # not set yet, because `event_texts` returns only the last id.
            by_line = self._event.begun or not self.first_event_id
            start = 0 if not by_line else 1 if run.startswith(b"\n") else run.find(b"\n\n") + 2
            self._take_lines(run[:start], out)
            if not self._take_blocks(run, start, last + 2, out):
                self._take_lines(run[start : last + 2], out)
            run = run[last + 2 :]
        self._take_lines(run, out)

    def _take_blocks(self, run: bytes, start: int, stop: int, out: list[Any]) -> bool:
        """Decode complete events in one call; if they must be read line by line, return False and change nothing."""
        taken = event_texts(run, start, stop, self._limits.max_item_bytes)
        if taken is None or whole_bytes(run) < len(run):
            return False
        texts, count, last_id = taken
        if count:
            values = self._decode_many(texts, count)
            if values is None:
                return False
            out += values
        if last_id is not None:
            self.last_event_id = last_id.decode()
        if count:
            # Find the last event with data by its last data line, because comments and other lines may follow it.
            data = run.rfind(b"\ndata", start - 1 if start else 0, stop)
            block = run[run.rfind(b"\n\n", 0, data + 1) + 1 : run.find(b"\n\n", data)]
            self.is_behind_id = b"\nid" in (block if data >= 0 else b"\n" + run[:stop])
        return True

    def _take_lines(self, run: bytes, out: list[Any]) -> None:
        texts: list[bytes] = []
        try:
            for line in run.splitlines():  # every line end is LF, because `_decode` has replaced the others
                if line:
                    self._add(line)
                elif self._whole:
                    self._dispatch_whole(out)
                elif data := self._commit().data:
                    texts.append(b"\n".join(data))
        finally:
            self._take(texts, out)

    def _add(self, line: bytes) -> None:
        self._event.add(line, self._limits.max_item_bytes)
        if self._event.retry is not None:
            # The field "retry" takes effect at once, before its event is complete (WHATWG HTML §9.2.6).
            self.retry = self._event.retry

    def _commit(self) -> _OpenEvent:
        """End the current event, set `last_event_id` to its id if it has one, and return the event."""
        event, self._event = self._event, _OpenEvent()
        if event.data:
            self.is_behind_id = event.id is not None
        if event.id is not None:
            self.last_event_id = event.id.decode()
            self.first_event_id = self.first_event_id or self.last_event_id
        return event

    def _dispatch_whole(self, out: list[Any]) -> None:
        event = self._commit()
        if event.data or (event.begun and self._emit_empty):
            self._records_seen += 1
            out.append(
                ServerSentEvent(
                    data=b"\n".join(event.data).decode(),
                    event=event.event.decode() or "message",
                    id=self.last_event_id,
                    retry=event.retry,
                )
            )

    def _take(self, texts: list[bytes], out: list[Any]) -> None:
        if not texts:
            return
        values = self._decode_many(b"\n".join(texts), len(texts))
        if values is not None:
            out += values
            return
        for text in texts:
            try:
                self._decode_one(text, 0, out)
            except DecodeError as error:
                if isinstance(error, LimitError):
                    raise
                shown = text[:40].decode("utf-8", "replace")
                msg = f"event with invalid data {shown!r}: {error.message}; use type=ServerSentEvent for other data"
                raise DecodeError(msg) from None

    def _finish(self, out: list[Any], *, framed: bool) -> None:  # noqa: ARG002 - only a blank line ends an event
        # WHATWG HTML §9.2.6 ignores an incomplete event. Here it raises an error, because the stream was cut.
        if self._event.begun or self._lines.rest():
            raise TruncatedError("the stream ended inside an event, expected a blank line after it")


SSE = Format(
    name="sse",
    media_types=("text/event-stream",),
    suffixes=(".sse",),
    encoder=SseEncoder,
    decoder=SseDecoder,
    headers={"Cache-Control": "no-cache"},
    keepalive=b":\n\n",
    end_record=_END_RECORD,
    keepalive_by_default=True,
    event_ids=True,
)
