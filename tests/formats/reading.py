"""Bytes in chunks -> decoded items, and the error after them."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from hypothesis import strategies as st

from chunkwise.errors import DecodeError, StreamError
from chunkwise.formats import Decoder
from chunkwise.formats.contract import Checkpoint

MakeAnyDecoder = Callable[[], Decoder]


class Reading(NamedTuple):
    """Decoded items, and the error raised after them."""

    items: list[Any]
    error: StreamError | None

    @property
    def failed(self) -> bool:
        return self.error is not None

    @property
    def shown(self) -> str:
        """Return the items as text, because 1 == 1.0 == True and 0 == -0.0, and whether an error was raised."""
        return f"{self.items!r} {'and an error' if self.failed else 'whole'}"


def read(make: MakeAnyDecoder, pieces: Iterable[bytes], *, framed: bool = False, ends: bool = True) -> Reading:
    """Feed chunks to a new decoder; return the items and the error. Only errors of chunkwise are caught.

    After each call that returns items, ``b""`` is fed, because only the next call raises an error after these items.
    Without ``ends``, `finish` is not called.
    """
    decoder = make()
    items: list[Any] = []
    try:
        for piece in pieces:
            if got := decoder.feed(piece):
                items += got
                items += decoder.feed(b"")
        for _ in range(2 * ends):
            items += decoder.finish(framed=framed)
    except StreamError as error:
        return Reading(items, error)
    finally:
        assert decoder.items_seen == len(items)
    return Reading(items, None)


def read_on(make: MakeAnyDecoder, pieces: Iterable[bytes], *, framed: bool = False) -> list[Any]:
    """Feed chunks and continue after each error; return the items, with ``DecodeError`` in place of each error."""
    decoder = make()
    out: list[Any] = []

    def call_until_quiet(step: Callable[[], list[Any]]) -> bool:
        """Return whether decoding can continue."""
        while True:
            try:
                items = step()
            except DecodeError as error:
                out.append(type(error))
                if type(error) is not DecodeError:
                    return False
            else:
                out.extend(items)
                if not items:
                    return True

    for piece in pieces:
        waiting = [piece]
        if not call_until_quiet(lambda waiting=waiting: decoder.feed(waiting.pop() if waiting else b"")):  # type: ignore[misc]
            return out
    call_until_quiet(lambda: decoder.finish(framed=framed))
    return out


def bytewise(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


def cut_at(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


def every_split(data: bytes) -> Iterator[list[bytes]]:
    """Yield the data as one chunk, byte by byte, and split in two at every offset."""
    yield [data]
    yield bytewise(data)
    for cut in range(1, len(data)):
        yield [data[:cut], data[cut:]]


cuts = st.lists(st.integers(0, 10_000), max_size=8)


def random_split(data: bytes, drawn: list[int]) -> list[bytes]:
    """Split the data at drawn offsets; some chunks are empty."""
    return cut_at(data, [place % (len(data) + 1) for place in drawn])


def places_in(make: MakeAnyDecoder, pieces: Iterable[bytes]) -> tuple[list[Checkpoint], list[Any]]:
    """Feed chunks to a decoder; return all its checkpoints and items."""
    decoder = make()
    places, items = [], []
    for piece in pieces:
        items += decoder.feed(piece)
        if place := decoder.checkpoint():
            places.append(place)
    items += decoder.finish(framed=True)
    assert decoder.checkpoint() is None
    return places, items


def checked_places(make: MakeAnyDecoder, pieces: list[bytes]) -> list[Checkpoint]:
    """Return the checkpoints of a stream; check that a new decoder at each of them returns the remaining items."""
    places, items = places_in(make, pieces)
    stream = b"".join(pieces)
    for place in set(places):
        assert place.byte_offset <= len(stream)
        decoder = make()
        assert decoder.feed(place.before) == []
        rest = decoder.feed(stream[place.byte_offset :])
        rest += decoder.finish(framed=True)
        assert repr(rest) == repr(items[place.item_index :])
    return places
