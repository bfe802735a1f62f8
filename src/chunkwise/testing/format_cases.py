"""Test cases for a format. They encode some items, and decode the bytes: complete, cut and damaged."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from chunkwise.errors import EncodeError, StreamError, TruncatedError
from chunkwise.formats.contract import Decoder, Format
from chunkwise.testing.conformance import ConformanceCase, cases_of, same, shown

_MOST_CUTS = 1000
# All damaged streams together have about this many bytes, because to decode them byte by byte is slow.
_BYTES_OF_DAMAGE = 100_000
_ODD = [
    b"\n", b"\r\n", b"\n\n", b" ", b"\x00", b"\x1e", b'"', b"[", b"]", b"{", b"}", b",", b":", b"\\", b"\xff", b"\xc3",
    b"\xef\xbb\xbf", b"0", b"-",
]  # fmt: skip


class _Reading(NamedTuple):
    """The items that a decoder returned, the error after them, and whether `finish` raised the error."""

    items: list[Any]
    error: StreamError | None
    at_end: bool


def format_cases(
    format: Format, items: Sequence[Any], *, decoded: Sequence[Any] | None = None, refused: Sequence[Any] = (object(),)
) -> list[ConformanceCase]:
    """Return one case for each promise of a format, for example that a cut stream raises `TruncatedError`.

    The damaged bytes are chosen at random, but with a fixed seed, so every run tests the same bytes.

    Args:
        format: your format, or one of `FORMATS`.
        items: the items to encode. Pass at least three different items. Do not pass many: the stream of the items is
            decoded again for each position at which it can be cut, so many items make the cases slow.
        decoded: the items that the decoder returns, if they differ from ``items``.
        refused: items that the format cannot hold, so that the encoder raises `EncodeError`. May be empty.

    Raises:
        ValueError: there are no items, or ``decoded`` has a different length.
    """
    if not items or (decoded is not None and len(items) != len(decoded)):
        raise ValueError(
            f"expected at least one item, and a decoded item for each, got {len(items)} items "
            f"and {len(decoded or ())} decoded items"
        )
    checks = _FormatChecks(format, list(items), list(items if decoded is None else decoded), list(refused))
    left_out: set[Callable[..., None]] = set()
    if format.keepalive is None:
        left_out.add(_FormatChecks.keepalive_between_items_is_ignored)
    if not refused:
        left_out.add(_FormatChecks.refused_item_leaves_the_encoder_unchanged)
    return cases_of(checks, left_out, prefix=f"{format.name}-")


@dataclass(frozen=True)
class _FormatChecks:
    _format: Format
    _items: list[Any]
    _decoded: list[Any]
    _refused: list[Any]

    def items_are_decoded(self) -> None:
        """The decoder returns the encoded items, and its `items_seen` and `bytes_seen` have the right values."""
        stream = self._written(self._items)
        for framed in (False, True):
            decoder = self._format.decoder()
            items = decoder.feed(stream)
            items += decoder.finish(framed=framed)
            self._same(items, self._decoded, f"the stream {shown(stream)} with framed={framed}")
            _counted(decoder, items, len(stream))
            assert decoder.finish(framed=framed) == [], "finish() returned items again when it was called twice"

    def empty_stream_is_decoded(self) -> None:
        """An empty stream ends without an error."""
        stream = self._written([])
        got = self._read([stream])
        assert got.error is None, f"a stream of no items ({stream!r}) raised {got.error!r}"
        self._same(got.items, [], f"a stream of no items ({stream!r})")

    def batch_sizes_do_not_change_the_bytes(self) -> None:
        """The encoded bytes do not depend on the sizes of the batches."""
        whole = self._written(self._items)
        for size in range(1, len(self._items)):
            batched = self._written(self._items, size)
            assert batched == whole, f"in batches of {size} the bytes are {shown(batched)}, in one batch {shown(whole)}"

    def any_split_gives_the_same_items(self) -> None:
        """The decoded items do not depend on how the bytes are split."""
        stream = self._written(self._items)
        for pieces in _splits(stream):
            got = self._read(pieces)
            assert got.error is None, f"in the pieces {shown(pieces)} the stream raised {got.error!r}"
            self._same(got.items, self._decoded, f"the pieces {shown(pieces)}")

    def feeding_no_bytes_changes_nothing(self) -> None:
        """Calls of ``feed(b"")`` between the bytes of a stream do not change the decoded items."""
        stream = self._written(self._items)
        got = self._read([b"", b"", *_bytewise(stream)], asking=True)
        assert got.error is None, f'with feed(b"") after each byte the stream raised {got.error!r}'
        self._same(got.items, self._decoded, 'feed(b"") after each byte')

    def cut_is_detected(self) -> None:
        """A stream that is cut raises `TruncatedError`.

        If the format has no end mark, a cut between two items cannot be noticed, and so raises no error.
        """
        stream, ends = self._written(self._items), self._ends()
        proves_end = bool(stream[ends[-1] :].strip())
        for size in _some(range(len(stream))):
            got = self._read([stream[:size]])
            where = f"cut after {size} of {len(stream)} bytes ({shown(stream[:size])})"
            self._same(got.items, self._decoded[: len(got.items)], where)
            if got.error is None:
                if proves_end:
                    # If the cut removes only white space at the end, the stream is still complete.
                    whole = not stream[size:].strip()
                else:
                    whole = size <= ends[len(got.items)] or self._goes_on(stream[:size], got.items)
                assert whole, f"{where} the stream ended without an error, as if it were complete"
            else:
                is_truncated = isinstance(got.error, TruncatedError)
                assert is_truncated, f"{where} the stream raised {got.error!r}, expected TruncatedError"

    def items_before_a_cut_are_returned(self) -> None:
        """The items before a cut are returned, and the `items_seen` of the error is the number of these items."""
        stream, ends = self._written(self._items), self._ends()
        for size in _some(range(1, len(stream))):
            got = self._read([stream[:size]])
            # An item that ends exactly at the cut need not be returned: the number 12 could be the start of 123.
            least = sum(end < size for end in ends[1:])
            where = f"cut after {size} of {len(stream)} bytes ({shown(stream[:size])})"
            assert len(got.items) >= least, f"{where} {len(got.items)} items were returned, but {least} are complete"
            if isinstance(got.error, TruncatedError):
                seen = got.error.items_seen
                assert seen == len(got.items), f"{where} items_seen is {seen}, but {len(got.items)} were returned"

    def items_before_a_defect_are_returned(self) -> None:
        """If a call of `feed` gets items and then a defect, it returns the items; the next call raises the error."""
        for stream in _damaged(self._written(self._items)):
            slowly, at_once = self._read(_bytewise(stream), asking=True), self._read([stream], asking=True)
            where = f"the defective bytes {shown(stream)}"
            assert len(at_once.items) >= len(slowly.items), (
                f"{where} in one piece gave {shown(at_once.items)} before the error {at_once.error!r}, "
                f"but {shown(slowly.items)} byte by byte"
            )
            self._same(at_once.items, slowly.items, f"{where}, compared with byte by byte,")
            alike = bool(at_once.error) == bool(slowly.error) and at_once.at_end == slowly.at_end
            assert alike, (
                f"{where} in one piece raised {_raised(at_once)}, but byte by byte {_raised(slowly)}: "
                f"the next call after the items before a defect must raise the error, even feed(b'')"
            )

    def any_bytes_raise_only_stream_errors(self) -> None:
        """Bytes that are not in the format raise a `StreamError`, and no other exception."""
        for stream in (*_strange(), *_damaged(self._written(self._items))):
            for framed in (False, True):
                self._read([stream], framed=framed)

    def keepalive_between_items_is_ignored(self) -> None:
        """Keepalive bytes between items are not read as an item."""
        keepalive = self._format.keepalive or b""
        encoder = self._format.encoder()
        parts = [encoder.start(), *(encoder.encode([item]) for item in self._items), encoder.finish()]
        stream = (2 * keepalive).join(parts)
        for pieces in ([stream], _bytewise(stream)):
            got = self._read(pieces)
            where = f"the stream with {keepalive!r} between its items ({shown(stream)})"
            assert got.error is None, f"{where} raised {got.error!r}"
            self._same(got.items, self._decoded, where)

    def refused_item_leaves_the_encoder_unchanged(self) -> None:
        """After an `EncodeError`, which names the item, the encoder continues as if nothing had happened."""
        for count in range(len(self._items)):
            encoder = self._format.encoder()
            first, rest = self._items[:count], self._items[count:]
            parts = [encoder.start()]
            if first:
                parts.append(encoder.encode(first))
            for bad in self._refused:
                for batch in ([bad], [*rest, bad]):
                    _refuses(encoder.encode, batch, count + len(batch) - 1)
            parts += [encoder.encode(rest), encoder.finish()]
            got, expected = b"".join(parts), self._written(self._items)
            assert got == expected, (
                f"after an EncodeError with {count} items before it, the encoder wrote {shown(got)}, "
                f"expected {shown(expected)}"
            )

    def _written(self, items: list[Any], size: int = 0) -> bytes:
        encoder = self._format.encoder()
        starts = range(0, len(items), size or len(items) or 1)
        batches = [encoder.start(), *(encoder.encode(items[at : at + (size or len(items))]) for at in starts)]
        return b"".join([*batches, encoder.finish()])

    def _ends(self) -> list[int]:
        """Return the offset at which each item ends; the first offset is the start of the first item."""
        encoder = self._format.encoder()
        return list(accumulate([len(encoder.start()), *(len(encoder.encode([item])) for item in self._items)]))

    def _goes_on(self, stream: bytes, items: list[Any]) -> bool:
        """Return whether ``stream`` ends between two items, so that an item appended to it is decoded unchanged."""
        # If the stream ends inside an item, the appended bytes are read as a part of this item, or as a defect.
        encoder = self._format.encoder()
        encoder.start()
        encoder.encode(self._items)
        got = self._read([stream, encoder.encode(self._items[:1])], framed=True)
        return got.error is None and same(got.items, [*items, self._decoded[0]])

    def _read(self, pieces: Iterable[bytes], *, framed: bool = False, asking: bool = False) -> _Reading:
        """Decode the pieces of a stream up to the first error.

        If ``asking`` is true, ``feed(b"")`` is called after each piece. If a piece has items and then a defect, feed()
        returns the items first, and this second call raises the error.
        """
        decoder = self._format.decoder()
        items: list[Any] = []
        at_end = False
        try:
            for piece in pieces:
                items += decoder.feed(piece)
                if asking:
                    items += decoder.feed(b"")
            at_end = True
            items += decoder.finish(framed=framed)
            # If the stream is incomplete and the first finish() returned items, the second one raises the error.
            items += decoder.finish(framed=framed)
        except StreamError as error:
            return _Reading(items, error, at_end)
        except Exception as error:
            msg = f"expected only StreamError, got {error!r} for the pieces {shown(pieces)}"
            raise AssertionError(msg) from error
        return _Reading(items, None, at_end)

    def _same(self, got: list[Any], expected: list[Any], where: str) -> None:
        assert same(got, expected), f"{where} gave {shown(got)}, expected {shown(expected)}"


def _raised(reading: _Reading) -> str:
    when = "at the end" if reading.at_end else "at once"
    return f"{reading.error!r} {when}" if reading.error else "nothing"


def _counted(decoder: Decoder, items: list[Any], size: int) -> None:
    counts = (decoder.items_seen, decoder.bytes_seen)
    assert counts == (len(items), size), f"expected items_seen and bytes_seen {(len(items), size)}, got {counts}"


def _refuses(encode: Callable[[Sequence[Any]], bytes], batch: list[Any], index: int) -> None:
    try:
        data = encode(batch)
    except EncodeError as error:
        refusal = error
    except Exception as error:
        msg = f"expected EncodeError for an item that cannot be encoded, got {error!r}"
        raise AssertionError(msg) from error
    else:
        msg = f"expected EncodeError for {batch[-1]!r} in `refused`, but it was encoded as {shown(data)}"
        raise AssertionError(msg)
    found = refusal.item_index
    assert found == index, f"EncodeError has item_index {found}, expected {index}: {refusal}"


def _bytewise(data: bytes) -> list[bytes]:
    """Return the bytes one by one."""
    return [data[index : index + 1] for index in range(len(data))]


def _splits(data: bytes) -> Iterator[list[bytes]]:
    """Yield the data in one piece, byte by byte, cut in two at every position, and in random pieces."""
    yield [data]
    yield _bytewise(data)
    for cut in _some(range(1, len(data))):
        yield [data[:cut], data[cut:]]
    dice = random.Random(3)  # noqa: S311
    for _ in range(50):
        cuts = sorted(dice.choices(range(len(data) + 1), k=dice.randint(2, 8)))
        yield [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]


def _some(places: range) -> Sequence[int]:
    """Return the positions at which to cut a stream: all in ``places``, or a random sample if there are too many."""
    if len(places) <= _MOST_CUTS:
        return places
    return sorted(random.Random(4).sample(places, _MOST_CUTS))  # noqa: S311


def _damaged(stream: bytes) -> Iterator[bytes]:
    """Yield copies of a stream in which bytes are inserted, removed or replaced, once or twice."""
    dice = random.Random(2)  # noqa: S311
    for _ in range(min(400, 10 + _BYTES_OF_DAMAGE // (len(stream) + 1))):
        data = stream
        for _ in range(dice.randint(1, 2)):
            start = dice.randint(0, len(data))
            put = dice.choice([b"", dice.choice(_ODD), dice.randbytes(dice.randint(1, 2))])
            data = data[:start] + put + data[start + dice.randint(0, 2) :]
        yield data


def _strange() -> Iterator[bytes]:
    """Yield random bytes, as a test of a decoder with bytes that are usually not a stream of any format."""
    dice = random.Random(1)  # noqa: S311
    for _ in range(300):
        yield dice.randbytes(dice.randint(1, 40))
        yield b"".join(dice.choices(_ODD, k=dice.randint(1, 8)))
