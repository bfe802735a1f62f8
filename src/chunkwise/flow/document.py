"""A value with live parts (iterators, awaitables) -> its JSON text, in document order."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from types import AsyncGeneratorType, GeneratorType
from typing import Any

import msgspec

from chunkwise.errors import EncodeError
from chunkwise.flow.gathering import WRITE_BYTES, Box, Level, enough, gather
from chunkwise.formats.json_document import JsonEncoder
from chunkwise.formats.parsing.json_values import LivePart, encode_value, is_live
from chunkwise.sources.batches import Batches

_MAX_DEPTH = 200  # of objects and awaitables around a live part: each takes three frames of Python's stack


class DocumentWriter:
    """Writes one value. `outbound` runs `write`, and encodes the items in `level` each time that it suspends.

    `level` has the items of the array that is being written; it is None outside of arrays.
    """

    def __init__(self, box: Box, futures: "Futures") -> None:
        self.level: Level | None = None
        self._box = box
        self._futures = futures

    async def write(self, value: Any, depth: int = 1) -> None:
        """Write a value, and each of its live parts as soon as it has items; EncodeError if JSON cannot hold a part."""
        if depth > _MAX_DEPTH:
            raise EncodeError(f"iterators and awaitables are nested deeper than {_MAX_DEPTH} in a document")
        mapping = _as_mapping(value)
        if mapping is not None:
            await self._write_object(mapping, depth)
        elif isinstance(value, Awaitable):
            result = await self._futures.of(value)
            async with self._futures.started(result):
                self._box.worth_writing = True
                await self._write_part(b"", result, depth + 1)
        else:
            await self._write_array(value)

    async def _write_part(self, key: bytes, value: Any, depth: int) -> None:
        try:
            text = encode_value(value)
        except LivePart:
            self._box.buffer += key
            await self.write(value, depth)
        else:
            self._box.buffer += key + text
            if len(self._box.buffer) >= WRITE_BYTES:
                await enough()

    async def _write_object(self, mapping: Mapping[Any, Any], depth: int) -> None:
        before = b"{"
        for name, value in mapping.items():
            key = encode_value({name: 0})[1:-2]  # '"name":', by the engine's own rules for names
            await self._write_part(before + key, value, depth + 1)
            before = b","
        self._box.buffer += b"{}" if before == b"{" else b"}"

    async def _write_array(self, source: Any) -> None:
        self._futures.take(source)
        encoder = JsonEncoder()
        self._box.buffer += encoder.start()
        self.level = Level(encoder, self._box)
        await gather(source, self.level)
        while self.level.items:
            await enough()
        self.level = None
        self._box.buffer += encoder.finish()


class Futures:
    """The futures of a stream's awaitables: those of one document are all started together."""

    def __init__(self) -> None:
        # By the id of the awaitable, which is kept so that its id stays unique.
        self._running: dict[int, tuple[Any, asyncio.Future[Any]]] = {}
        self._taken: list[dict[int, Any]] = []  # the iterators of each open item, one inside the other

    @asynccontextmanager
    async def item(self, value: Any) -> AsyncIterator[None]:
        """Start all awaitables of an item, and remember its iterators until the end of the ``async with`` block."""
        self._taken.append({})
        try:
            async with self.started(value):
                yield
        finally:
            self._taken.pop()

    def take(self, source: Any) -> None:
        """Note that a source is written now; EncodeError if it was before, so that it would now be an empty array."""
        given = source.lists if isinstance(source, Batches) else source
        if not isinstance(given, (AsyncIterator, Iterator)):
            return
        if is_spent(given) or any(id(given) in taken for taken in self._taken):
            raise EncodeError("an iterator in a document is spent, or is in two places: it can be written only once")
        self._taken[-1][id(given)] = given

    def of(self, awaitable: Awaitable[Any]) -> asyncio.Future[Any]:
        """Return the future of an awaitable, and start it if it is not running."""
        known = self._running.get(id(awaitable))
        if known is None:
            known = self._running[id(awaitable)] = (awaitable, asyncio.ensure_future(awaitable))
        return known[1]

    @asynccontextmanager
    async def started(self, value: Any) -> AsyncIterator[None]:
        """Start all awaitables in a value; at the end, cancel those that are still running."""
        found = live_parts(value)
        given = [part.lists if isinstance(part, Batches) else part for part in found]
        once = [id(part) for part in given if isinstance(part, (AsyncIterator, Iterator))]
        if len(set(once)) < len(once):
            raise EncodeError("one iterator is in two places of a document: it can be written only once")
        parts = [part for part in found if isinstance(part, Awaitable) and id(part) not in self._running]
        mine = {id(part): part for part in parts}  # one may be in two places
        futures = [self.of(part) for part in mine.values()]
        try:
            yield
        finally:
            for future in futures:
                future.cancel()
            await asyncio.gather(*futures, return_exceptions=True)
            for known in mine:
                del self._running[known]


def is_spent(source: Any) -> bool:
    """Whether a source is a generator that has ended, or was closed."""
    if isinstance(source, AsyncGeneratorType):
        return source.ag_frame is None
    return isinstance(source, GeneratorType) and source.gi_frame is None


def live_parts(value: Any) -> list[Any]:
    """Return the iterators and awaitables in a value, at any depth, but not those in their items or results."""
    parts: list[Any] = []
    seen: set[int] = set()
    rest = [value]
    while rest:
        part = rest.pop()
        mapping = _as_mapping(part)
        if mapping is not None or isinstance(part, (list, tuple, set, frozenset)):
            if id(part) not in seen:
                seen.add(id(part))
                rest += reversed(list(mapping.values() if mapping is not None else part))
        elif is_live(part):
            parts.append(part)
    return parts


async def discard(value: Any) -> None:
    """Close the live parts of a source that will not be run."""
    for part in live_parts(value):
        own = part.lists if isinstance(part, Batches) else part
        if not isinstance(own, (AsyncIterator, Iterator, Awaitable)):
            continue  # iterating would not close it either, and it may be in use elsewhere
        for name in ("aclose", "close", "cancel"):
            close: Callable[[], Any] | None = getattr(own, name, None)
            if close is not None:
                closed = close()
                if isinstance(closed, Awaitable):
                    await closed
                break


def _as_mapping(value: Any) -> Mapping[Any, Any] | None:
    """Return an object's members under the JSON engine's names for them; None for any other value."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        if config.array_like:
            raise EncodeError(f"{type(value).__name__} is written as an array, which cannot hold live parts")
        tag = {config.tag_field: config.tag} if config.tag is not None else {}
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        return tag | {encoded: getattr(value, name) for encoded, name in names}
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in value.__attrs_attrs__}
    return None
