"""Batches of items -> one record for each item, with an optional end record: the base class of most encoders."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from chunkwise.errors import EncodeError
from chunkwise.formats.contract import EndRecordMarks
from chunkwise.formats.end_record import complete_record, failed_record


class RecordEncoder(ABC):
    """Encodes items as records and counts them. A subclass for a format implements `_encode`."""

    before = b""
    """The bytes before a record that the caller writes in parts."""

    after = b"\n"
    """The bytes after a record that the caller writes in parts."""

    end_record: EndRecordMarks | None = None
    """The marks of the end record of the format; None if it has no end record."""

    def __init__(
        self,
        *,
        document: bool = False,  # noqa: ARG002 - a document is encoded as one record
        stream_end: bool = False,
        first: int = 0,
        key: Sequence[str] = (),
    ) -> None:
        self._first = first
        self._key = key
        self._count = 0
        self._end = self.end_record if stream_end else None
        self._in_item = False

    @abstractmethod
    def _encode(self, batch: Sequence[Any]) -> bytes:
        """Return the bytes of a batch; `_count` is the index of its first item in the stream.

        If an item cannot be encoded, this must raise and change nothing: the caller then encodes the items before it.
        """

    def start(self) -> bytes:
        return b""

    def encode(self, batch: Sequence[Any]) -> bytes:
        data = self._encode(batch)
        if self._end is not None and (data.startswith(self._end.before) or b"\n" + self._end.before in data):
            self._refuse_record(batch, self._end.before)
        self._count += len(batch)
        return data

    def open_item(self) -> bytes:
        self._count += 1
        self._in_item = True
        return self.before

    def close_item(self) -> bytes:
        self._in_item = False
        return self.after

    def finish(self) -> bytes:
        return b"" if self._end is None else complete_record(self._end, self._count)

    def fail(self, problem: Mapping[str, Any]) -> bytes:
        return b"" if self._end is None or self._in_item else failed_record(self._end, self._count, problem)

    def _refuse_record(self, batch: Sequence[Any], mark: bytes) -> NoReturn:
        # Only a msgspec.Raw can begin like an end record, because msgspec copies its bytes unchanged.
        index = next(index for index, item in enumerate(batch) if self._encode([item]).startswith(mark))
        message = f"the item begins with {mark!r}, like an end record: remove the white space at its start"
        raise EncodeError(message, item_index=self._count + index)
