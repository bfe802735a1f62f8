"""Write a document that contains iterators and awaitables (live parts) as JSON text, in the order of the document."""

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

# An iterator or awaitable may be inside at most this many objects and awaitables. Each of them needs three frames of
# the Python stack, which by default has at most 1000.
_MAX_DEPTH = 200


class DocumentWriter:
    """Writes one document. `Outbound` runs the coroutine `write`.

    An iterator in the document is written as an array. Its items are collected in `level`. Each time that `write`
    suspends, `Outbound` encodes these items. While no iterator is being written, `level` is None.
    """

    def __init__(self, box: Box, futures: "Futures") -> None:
        self.level: Level | None = None
        self._box = box
        self._futures = futures

    async def write(self, value: Any, depth: int = 1) -> None:
        """Add the JSON text of a value to the bytes of the stream; add the items of its iterators as they arrive.

        Raises:
            EncodeError: JSON cannot represent a part of the value, or iterators are nested too deeply.
        """
        if depth > _MAX_DEPTH:
            message = f"got an iterator or awaitable at depth {depth} of a document, expected at most {_MAX_DEPTH}"
            raise EncodeError(message)
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
            # The key is encoded with its colon: for example, '"name":' is cut out of '{"name":0}'.
            key = encode_value({name: 0})[1:-2]
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
    """The futures of the awaitables in a stream. All awaitables of one document are started together."""

    def __init__(self) -> None:
        # The keys are the ids of the awaitables. Each value keeps its awaitable alive, because Python could otherwise
        # give the same id to another object.
        self._running: dict[int, tuple[Any, asyncio.Future[Any]]] = {}
        # Each dict contains the iterators that one unfinished item has already used; the keys are their ids.
        self._taken: list[dict[int, Any]] = []

    @asynccontextmanager
    async def item(self, value: Any) -> AsyncIterator[None]:
        """Start all awaitables of an item. Inside the ``async with``, `take` allows only one use of each iterator."""
        self._taken.append({})
        try:
            async with self.started(value):
                yield
        finally:
            self._taken.pop()

    def take(self, source: Any) -> None:
        """Record that a source is used. Raise EncodeError for a used iterator, because it would yield no more items."""
        given = source.lists if isinstance(source, Batches) else source
        if not isinstance(given, (AsyncIterator, Iterator)):
            return
        if is_spent(given) or any(id(given) in taken for taken in self._taken):
            raise EncodeError("an iterator in a document is exhausted or used twice: create a new one for each use")
        self._taken[-1][id(given)] = given

    def of(self, awaitable: Awaitable[Any]) -> asyncio.Future[Any]:
        """Return the future of an awaitable. Start the awaitable if it is not running."""
        known = self._running.get(id(awaitable))
        if known is None:
            known = self._running[id(awaitable)] = (awaitable, asyncio.ensure_future(awaitable))
        return known[1]

    @asynccontextmanager
    async def started(self, value: Any) -> AsyncIterator[None]:
        """Start all awaitables in a value; at the end of the block, cancel those that are still running."""
        found = live_parts(value)
        given = [part.lists if isinstance(part, Batches) else part for part in found]
        once = [id(part) for part in given if isinstance(part, (AsyncIterator, Iterator))]
        if len(set(once)) < len(once):
            raise EncodeError("an iterator is used twice in a document: create a new one for each use")
        parts = [part for part in found if isinstance(part, Awaitable) and id(part) not in self._running]
        # A value may contain the same awaitable twice. The keys are ids, so that this dict contains it only once.
        mine = {id(part): part for part in parts}
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
    """Return whether a source is a generator that has ended or was closed."""
    if isinstance(source, AsyncGeneratorType):
        return source.ag_frame is None
    return isinstance(source, GeneratorType) and source.gi_frame is None


def live_parts(value: Any) -> list[Any]:
    """Return the iterators and awaitables that a value contains at any depth.

    Values that the iterators yield or the awaitables return are not searched.
    """
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
    """Close all iterators and awaitables in a value. Call this for a value that will not be sent."""
    for part in live_parts(value):
        own = part.lists if isinstance(part, Batches) else part
        if not isinstance(own, (AsyncIterator, Iterator, Awaitable)):
            # An iterable that is not an iterator can be used more than once. Do not close it: other code may need it.
            continue
        for name in ("aclose", "close", "cancel"):
            close: Callable[[], Any] | None = getattr(own, name, None)
            if close is not None:
                closed = close()
                if isinstance(closed, Awaitable):
                    await closed
                break


def _as_mapping(value: Any) -> Mapping[Any, Any] | None:
    """Return the members of a value as a mapping from their names in JSON to their values.

    The result is None for a value that is not encoded as a JSON object.
    """
    if isinstance(value, Mapping):
        return value
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        if config.array_like:
            advice = "use a Struct without array_like in a value with iterators or awaitables"
            raise EncodeError(f"{type(value).__name__} has array_like=True: {advice}")
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
