"""Records, each one JSON text -> the items at a path: shared by ndjson, json-seq and sse."""

import re
from collections.abc import Sequence
from typing import Any

from chunkwise.errors import DecodeError
from chunkwise.formats.contract import Limits
from chunkwise.formats.parsing.json_values import ValueDecoder
from chunkwise.formats.speedups import Scanner

_NOT_OPENERS = bytes(set(range(256)) - set(b"[{\n"))


class JsonRecords:
    """Decodes records: many in one call if they have no defect.

    Args:
        parts: the path inside each record; None or empty for the record itself.
        type: the type of each item.
        limits: only ``max_depth`` is used here.

    Attributes:
        found: whether the path selected anything.
        seen: the number of decoded records, whatever the path selected inside them.
    """

    def __init__(self, parts: tuple[str, ...] | None, type: Any, limits: Limits) -> None:
        self.found: bool = False
        self.seen: int = 0
        self._parts = parts or ()
        self._values = ValueDecoder(type)
        self._max_depth = limits.max_depth
        # For a run of which only '[', '{' and line ends are left: a line with more openers than the depth allows.
        self._deep = re.compile(rb"[\[{]{%d}" % (limits.max_depth + 1))

    def run(self, run: bytes, count: int | None = None) -> list[Any] | None:
        r"""Decode records with a ``\n`` between them in one call; None if that is not possible, for any reason.

        Args:
            run: the records.
            count: the number of records, if they may have line ends inside.
        """
        if self._parts or self._may_be_deep(run):
            return None
        values = self._values.lines(run)
        if values is None or len(values) != (count or len(values)):
            return None
        self.seen += len(values)
        return values

    def each(self, texts: Sequence[bytes], offsets: Sequence[int], out: list[Any]) -> None:
        """Decode records one by one into ``out``, up to the first defect, which is raised with its place.

        Raises:
            DecodeError: a record is not JSON, or an item not of the type.
            LimitError: a record is nested deeper than max_depth.
        """
        for text, offset in zip(texts, offsets, strict=True):
            if self._parts or self._may_be_deep(text):
                self._select(text, offset, out)
            else:
                out.append(self._values.one(text, offset))
            self.seen += 1

    def _may_be_deep(self, run: bytes) -> bool:
        return self._deep.search(run.translate(None, _NOT_OPENERS)) is not None

    def _select(self, text: bytes, offset: int, out: list[Any]) -> None:
        scanner = Scanner(self._parts, max_depth=self._max_depth)
        scanner.shift(offset)
        try:
            scanner.scan(text, 0)
            if why := scanner.finish(text, framed=True):
                raise DecodeError(why, byte_offset=offset)
        finally:
            self.found = self.found or scanner.found
            for start, end in scanner.spans:
                out.append(self._values.one(text[start:end], offset + start))
