"""What encoders of records have in common: one record behind the other, and nothing around them.

Must not know any one format.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any


class RecordEncoder(ABC):
    """Counts the records; a format says how a batch is written, and what stands around one that is written in parts."""

    before = b""
    """What stands before a record that is written in parts."""

    after = b"\n"
    """What stands behind it."""

    def __init__(self, *, document: bool = False) -> None:  # noqa: ARG002 - one value is one record
        self._count = 0

    @abstractmethod
    def _encode(self, batch: Sequence[Any]) -> bytes:
        """Return the bytes of a batch, whose first item has the index `_count`; change nothing if that fails."""

    def start(self) -> bytes:
        """See `Encoder.start`."""
        return b""

    def encode(self, batch: Sequence[Any]) -> bytes:
        """See `Encoder.encode`."""
        data = self._encode(batch)
        self._count += len(batch)
        return data

    def open_item(self) -> bytes:
        """See `Encoder.open_item`."""
        self._count += 1
        return self.before

    def close_item(self) -> bytes:
        """See `Encoder.close_item`."""
        return self.after

    def finish(self) -> bytes:
        """See `Encoder.finish`."""
        return b""
