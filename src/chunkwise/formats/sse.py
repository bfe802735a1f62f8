"""Server-sent events (WHATWG HTML §9.2) <-> items: the data of each event is one JSON text, its id the item's index.

Must not know how items arrive or leave, nor how a client reconnects. Whole events, with names, ids and data that is
not JSON, are `ServerSentEvent`: yield them to send them, ask for ``type=ServerSentEvent`` to read them. The format
cannot prove its end: a stream cut between two events looks whole, but for an end record, an event of its own.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from chunkwise.errors import DecodeError, EncodeError, LimitError, TruncatedError
from chunkwise.formats.contract import DEFAULT_LIMITS, STREAM_END, EndRecordMarks, Format, Limits
from chunkwise.formats.parsing.byte_lines import LineSplitter
from chunkwise.formats.parsing.json_records import JsonRecords
from chunkwise.formats.parsing.json_values import LivePart, encode_lines, encode_value
from chunkwise.formats.parsing.record_encoder import RecordEncoder
from chunkwise.formats.parsing.stream_decoder import StreamDecoder
from chunkwise.formats.paths import PathLike, parse_path
from chunkwise.formats.speedups.twins import event_texts, whole_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ServerSentEvent"]

_line_end = re.compile(r"\r\n|\r|\n")
_END_RECORD = EndRecordMarks(before=f"event: {STREAM_END}\ndata: ".encode(), after=b"\n\n", comment=b":")


class ServerSentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event, whole.

    Attributes:
        data: its data, any text.
        event: its type, ``"message"`` if it has none.
        id: the last event ID as it stands with this event; on sending, None stands for the item's index.
        retry: time in milliseconds after which to reconnect, if the event's block says one.
    """

    data: str
    event: str = "message"
    id: str | None = None
    retry: int | None = None


def value_of(item: Any) -> Any:
    """Return the item that an event was made of, its data as JSON or else as text; any other item as it is."""
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
        texts.pop()  # behind the last line end
        if self._key:
            ids = [self._id(item, place) for place, item in enumerate(batch)]
            return b"id: %b\ndata: %b\n\n" * len(texts) % tuple(chain.from_iterable(zip(ids, texts, strict=True)))
        # One call for all takes half the time of a call for each.
        numbered = enumerate(texts, self._first + self._count)
        return b"id: %d\ndata: %b\n\n" * len(texts) % tuple(chain.from_iterable(numbered))

    def _id(self, item: Any, place: int) -> bytes:
        """Return where an item stands: its index, and its key where only that tells the place for ever."""
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
        for field, text in (("data", item.data), ("event", item.event), ("id", name)):
            if not isinstance(text, str):
                raise EncodeError(f"{field} of an event is text, got {type(text).__name__}", item_index=index)
            if field != "data" and (_line_end.search(text) or "\0" in text):
                raise EncodeError(f"{field} {text!r} of an event holds a line end or NUL", item_index=index)
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
        """See `Encoder.open_item`."""
        return b"id: %d\ndata: " % (self._first + self._count) + super().open_item()


class SseDecoder(StreamDecoder):
    """An event stream in pieces -> the JSON values in its data, or whole events with ``type=ServerSentEvent``.

    Args:
        emit_empty: also give events without a data line, which the standard drops and some language-model services
            send; only for ``type=ServerSentEvent``.

    Attributes:
        first_event_id: the first that came, with which a server that begins again would begin.
        last_event_id: what a client that reconnects sends as ``Last-Event-ID``.
        is_behind_id: whether it is the last event's own: else those behind it would come again.
        retry: milliseconds to wait before it reconnects, once the stream said so.
    """

    name = "sse"
    checks_utf8 = False  # §9.2.5: decoded with the "UTF-8 decode" algorithm, which replaces

    def __init__(
        self,
        path: PathLike = "",
        *,
        type: Any = Any,
        required: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        emit_empty: bool = False,
    ) -> None:
        super().__init__(parse_path(path), required=required, limits=limits)
        self.first_event_id: str = ""
        self.last_event_id: str = ""
        self.is_behind_id: bool = False
        self.retry: int | None = None
        self._whole = type is ServerSentEvent
        if self._whole and self._parts:
            raise TypeError("a path selects inside JSON data: it does not go with type=ServerSentEvent")
        self._records = JsonRecords(self._parts, Any if self._whole else type, limits)
        self._emit_empty = emit_empty
        self._lines = LineSplitter(limits.max_line_bytes, "max_line_bytes")
        self._after_cr = False
        self._reset()

    @property
    def records_seen(self) -> int:
        """See `Decoder.records_seen`."""
        return self._records.seen

    @property
    def whole_records(self) -> int:
        """See `Decoder.whole_records`: a record is decoded when it is whole."""
        return self._records.seen

    def _reset(self) -> None:
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._event = b""
        self._id: bytes | None = None
        self._block_retry: int | None = None
        self._open = False  # a field of an event that is not complete was seen

    def _decode(self, data: bytes, out: list[Any]) -> None:
        # §9.2.6: lines end with CR LF, LF or CR. A CR ends its line at once; an LF right behind it is part of that end.
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
        """Take whole lines."""
        last = run.rfind(b"\n\n")
        if last >= 0 and not self._whole:
            # The block that is open, the first, for its id, and the one that stays open, line by line; those between
            # in one call.
            by_line = self._open or not self.first_event_id
            start = 0 if not by_line else 1 if run.startswith(b"\n") else run.find(b"\n\n") + 2
            self._take_lines(run[:start], out)
            if not self._take_blocks(run, start, last + 2, out):
                self._take_lines(run[start : last + 2], out)
            run = run[last + 2 :]
        self._take_lines(run, out)

    def _take_blocks(self, run: bytes, start: int, stop: int, out: list[Any]) -> bool:
        """Decode whole blocks in one call; False, and nothing done, if they have to be taken line by line."""
        taken = event_texts(run, start, stop, self._limits.max_item_bytes)
        if taken is None or whole_bytes(run) < len(run):
            return False
        texts, count, last_id = taken
        if count:
            values = self._records.run(texts, count)
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
            for line in run.splitlines():  # with LF only: bytes know of CR and LF alone, and CR is gone
                if line:
                    self._field(line)
                elif self._whole:
                    self._dispatch_whole(out)
                elif self._data:
                    texts.append(b"\n".join(self._data))
                    self._commit()
                else:
                    self._commit()
        finally:
            self._take(texts, out)

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if not name:
            return  # a comment
        self._open = True
        value = value.removeprefix(b" ")
        if not value.isascii():
            value = value.decode("utf-8", "replace").encode()
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
            if self._data_bytes > self._limits.max_item_bytes + 1:
                most = self._limits.max_item_bytes
                size = self._data_bytes - 1
                msg = f"event has {size} bytes of data or more, expected no more than {most} (max_item_bytes)"
                raise LimitError(msg)
        elif name == b"event":
            self._event = value
        elif name == b"id" and b"\0" not in value:
            self._id = value
        elif name == b"retry" and value.isdigit():
            self.retry = self._block_retry = int(value[:18])  # at once: §9.2.6 does not wait for the event's end

    def _commit(self) -> None:
        """Take over what the block says of the stream, and forget the block."""
        if self._data:
            self.is_behind_id = self._id is not None
        if self._id is not None:
            self.last_event_id = self._id.decode()
            self.first_event_id = self.first_event_id or self.last_event_id
        self._reset()

    def _dispatch_whole(self, out: list[Any]) -> None:
        data, event, retry, wanted = self._data, self._event, self._block_retry, self._open and self._emit_empty
        self._commit()
        if data or wanted:
            self._records.seen += 1
            out.append(
                ServerSentEvent(
                    data=b"\n".join(data).decode(),
                    event=event.decode() or "message",
                    id=self.last_event_id,
                    retry=retry,
                )
            )

    def _take(self, texts: list[bytes], out: list[Any]) -> None:
        if not texts:
            return
        values = self._records.run(b"\n".join(texts), len(texts))
        if values is not None:
            out += values
            return
        for text in texts:
            try:
                self._records.each([text], [0], out)
            except DecodeError as error:
                if isinstance(error, LimitError):
                    raise
                shown = text[:40].decode("utf-8", "replace")
                msg = f"the data of an event, {shown!r}: {error.message}; for other data ask for type=ServerSentEvent"
                raise DecodeError(msg) from None
        self._found = self._found or self._records.found

    def _finish(self, out: list[Any], *, framed: bool) -> None:  # noqa: ARG002 - no event is complete without its blank line
        # §9.2.6 drops an unfinished event; we drop it too, and say so, because a stream that ends in one was cut.
        if self._open or self._lines.rest():
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
