"""Server-sent events (WHATWG HTML §9.2) <-> items: the data of each event is one JSON text, its id the item's index.

Events with names, other ids, or data that is not JSON are `ServerSentEvent`: yield them to send them, and read them
with ``type=ServerSentEvent``. The format cannot prove its end: without an end record, which is an event of its own, a
stream that was cut between two events looks complete.
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
        data: its data, any text.
        event: its type, ``"message"`` by default.
        id: on reading, the last event ID at this event; on sending, None means the item's index.
        retry: the time in milliseconds after which to reconnect, if the event sets it.
    """

    data: str
    event: str = "message"
    id: str | None = None
    retry: int | None = None


def value_of(item: Any) -> Any:
    """Return the data of an event, decoded if it is JSON; return any other item unchanged."""
    if not isinstance(item, ServerSentEvent):
        return item
    try:
        return msgspec.json.decode(item.data)
    except (msgspec.DecodeError, RecursionError):
        return item.data


class SseEncoder(RecordEncoder):
    """Items -> events with the item as JSON in ``data`` and its index in ``id``."""

    after = b"\n\n"
    end_record: EndRecordMarks | None = _END_RECORD

    def _encode(self, batch: Sequence[Any]) -> bytes:
        if ServerSentEvent in map(type, batch):
            return b"".join([self._event(item, index) for index, item in enumerate(batch)])
        texts = encode_lines(batch, self._count).split(b"\n")
        texts.pop()  # after the last line end
        if self._key:
            ids = [self._id(item, place) for place, item in enumerate(batch)]
            return b"id: %b\ndata: %b\n\n" * len(texts) % tuple(chain.from_iterable(zip(ids, texts, strict=True)))
        # One call for all events takes half the time of one call for each.
        numbered = enumerate(texts, self._first + self._count)
        return b"id: %d\ndata: %b\n\n" * len(texts) % tuple(chain.from_iterable(numbered))

    def _id(self, item: Any, place: int) -> bytes:
        """Return the id of an item: its index, and its key if there is one."""
        index = self._first + self._count + place
        if not self._key:
            return b"%d" % index
        try:
            return b"%d %b" % (index, encode_value([item[name] for name in self._key]))
        except (TypeError, KeyError):
            message = f"an item has no {' and '.join(self._key)}, which the source names as its key"
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
                raise EncodeError(f"{label} of an event is text, got {type(text).__name__}", item_index=index)
            if label != "data" and (_line_end.search(text) or "\0" in text):
                raise EncodeError(f"{label} {text!r} of an event holds a line end or NUL", item_index=index)
        if self._end is not None and item.event == STREAM_END:
            raise EncodeError(f"event {STREAM_END!r} is the name of the stream's end record", item_index=index)
        lines = [f"id: {name}"]
        if item.event != "message":
            lines.append(f"event: {item.event}")
        if item.retry is not None:
            if type(item.retry) is not int or item.retry < 0:
                raise EncodeError(f"retry of an event is milliseconds, got {item.retry!r}", item_index=index)
            lines.append(f"retry: {item.retry}")
        lines += [f"data: {line}" for line in _line_end.split(item.data)]
        try:
            return ("\n".join(lines) + "\n\n").encode()
        except UnicodeEncodeError:
            raise EncodeError("an event holds a lone surrogate, which UTF-8 cannot", item_index=index) from None

    def open_item(self) -> bytes:
        return b"id: %d\ndata: " % (self._first + self._count) + super().open_item()


@dataclass(slots=True)
class _OpenEvent:
    """The fields of an event before its blank line."""

    data: list[bytes] = field(default_factory=list)
    data_bytes: int = 0
    event: bytes = b""
    id: bytes | None = None
    retry: int | None = None
    begun: bool = False  # whether there is any field

    def add(self, line: bytes, max_data_bytes: int) -> None:
        """Add a field, or ignore a comment."""
        name, _, value = line.partition(b":")
        if not name:
            return  # a comment
        self.begun = True
        value = value.removeprefix(b" ")
        if not value.isascii():
            value = value.decode("utf-8", "replace").encode()
        if name == b"data":
            self.data.append(value)
            self.data_bytes += len(value) + 1
            if (size := self.data_bytes - 1) > max_data_bytes:
                raise LimitError(
                    f"event has {size} bytes of data or more, expected no more than {max_data_bytes} (max_item_bytes)"
                )
        elif name == b"event":
            self.event = value
        elif name == b"id" and b"\0" not in value:
            self.id = value
        elif name == b"retry" and value.isdigit():
            self.retry = int(value[:18])


class SseDecoder(RecordDecoder):
    """An event stream in pieces -> the JSON values in its data, or whole events with ``type=ServerSentEvent``.

    ``emit_empty`` also returns whole events without a data line, which the standard drops and some language-model
    services send.
    """

    name = "sse"
    checks_utf8 = False  # §9.2.5: decoded with the "UTF-8 decode" algorithm, which replaces

    def __init__(self, path: PathLike = "", *, emit_empty: bool = False, **options: Any) -> None:
        super().__init__(path, **options)
        self.first_event_id: str = ""  # which a server that starts the stream from its beginning sends again
        self.last_event_id: str = ""  # which a client sends as ``Last-Event-ID`` when it reconnects
        self.is_behind_id: bool = False  # whether the last event has that ID: if not, it would be sent again
        self.retry: int | None = None  # milliseconds to wait before reconnecting, if the stream has set it
        self._whole = self._type is ServerSentEvent
        if self._whole and self._parts:
            raise TypeError("a path selects inside JSON data: it does not go with type=ServerSentEvent")
        self._emit_empty = emit_empty
        self._lines = LineSplitter(self._limits.max_line_bytes, "max_line_bytes")
        self._after_cr = False
        self._event = _OpenEvent()

    def _decode(self, data: bytes, out: list[Any]) -> None:
        # §9.2.6: lines end with CR LF, LF or CR. A CR ends its line at once; an LF right after it is part of that end.
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
        """Take complete lines."""
        last = run.rfind(b"\n\n")
        if last >= 0 and not self._whole:
            # Line by line: the open event, the first one (for its id), and the one that stays open. The events between
            # them are decoded in one call.
            by_line = self._event.begun or not self.first_event_id
            start = 0 if not by_line else 1 if run.startswith(b"\n") else run.find(b"\n\n") + 2
            self._take_lines(run[:start], out)
            if not self._take_blocks(run, start, last + 2, out):
                self._take_lines(run[start : last + 2], out)
            run = run[last + 2 :]
        self._take_lines(run, out)

    def _take_blocks(self, run: bytes, start: int, stop: int, out: list[Any]) -> bool:
        """Decode complete events in one call; return False, without a change, if they must be taken line by line."""
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
            data = run.rfind(b"\ndata", start - 1 if start else 0, stop)  # of the last event; a comment may follow it
            block = run[run.rfind(b"\n\n", 0, data + 1) + 1 : run.find(b"\n\n", data)]
            self.is_behind_id = b"\nid" in (block if data >= 0 else b"\n" + run[:stop])
        return True

    def _take_lines(self, run: bytes, out: list[Any]) -> None:
        texts: list[bytes] = []
        try:
            for line in run.splitlines():  # at LF only: bytes split at CR and LF, and CR is gone
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
            self.retry = self._event.retry  # at once: §9.2.6 does not wait for the end of the event

    def _commit(self) -> _OpenEvent:
        """End the open event: take over its id, and return it."""
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
                msg = f"the data of an event, {shown!r}: {error.message}; for other data ask for type=ServerSentEvent"
                raise DecodeError(msg) from None

    def _finish(self, out: list[Any], *, framed: bool) -> None:  # noqa: ARG002 - a blank line ends each event
        # §9.2.6 drops an unfinished event; we drop it too, and say so, because a stream that ends in one was cut.
        if self._event.begun or self._lines.rest():
            raise TruncatedError("the stream stops inside an event, which is dropped: a blank line ends an event")


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
