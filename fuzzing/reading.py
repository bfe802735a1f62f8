"""Decode pieces of a stream, and compare the results of different splits and of both kinds of code.

Only chunkwise's own errors are caught. Any other exception makes the fuzz target fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from chunkwise.errors import DecodeError, StreamError, TruncatedError
from chunkwise.formats import Decoder
from fuzzing.script import Script
from fuzzing.speedups import KINDS, using

MakeAnyDecoder = Callable[[], Decoder]


class Reading(NamedTuple):
    """The result of reading a stream with one decoder.

    Attributes:
        items: the items. If decoding continued after an error, the name of the error's class is at its place.
        error: the error that ended the decoding.
        counts: the decoder's counters of items, bytes and records.
        proven: whether the bytes prove that the stream is complete.
    """

    items: list[Any]
    error: StreamError | None
    counts: tuple[Any, ...]
    proven: bool

    @property
    def shown(self) -> str:
        """The results that must be the same for every split, as text.

        The texts are compared, because the values 1, 1.0 and True are equal in Python, but their texts are not.
        """
        return f"{self.items!r}, {'failed' if self.error else 'whole'}, proven={self.proven}"

    @property
    def told(self) -> str:
        """All results as text. It must be the same for the compiled code and the fallback."""
        error = self.error
        seen = (
            type(error).__name__,
            str(error),
            getattr(error, "byte_offset", None),
            getattr(error, "item_index", None),
        )
        return f"{self.shown}, {self.counts}, {seen if error else ''}"


def read(make: MakeAnyDecoder, pieces: Iterable[bytes], *, framed: bool) -> Reading:
    """Decode the pieces, and feed b"" after each one.

    If a piece has invalid bytes after an item, `feed` returns the item, and only the next call raises the error. With
    b"", this next call is made before the next piece is fed. Decoding continues after an error if the format allows it.
    """
    decoder = make()
    out: list[Any] = []
    count = 0
    error: StreamError | None = None

    def take(step: Callable[[], list[Any]]) -> bool:
        """Call ``step`` and collect its items or its error; return False if decoding has ended with an error."""
        nonlocal count, error
        try:
            items = step()
        except StreamError as raised:
            if not getattr(decoder, "resynchronises", False) or type(raised) is not DecodeError:
                error = raised
                return False
            out.append(type(raised).__name__)
            return True
        count += len(items)
        out.extend(items)
        return True

    steps = [step for piece in pieces for step in (piece, b"")]
    if all(take(lambda step=step: decoder.feed(step)) for step in steps):  # type: ignore[misc]
        before = -1
        # After a call of finish() that gave items or an error, the next one may raise one more error. So finish() is
        # called until a call adds nothing to `out`.
        while before < len(out):
            before = len(out)
            if not take(lambda: decoder.finish(framed=framed)):
                break
    assert decoder.items_seen == count, f"items_seen is {decoder.items_seen}, expected {count}"
    if isinstance(error, TruncatedError):
        assert error.items_seen == count, f"the error counts {error.items_seen} items, expected {count}"
    counts = (decoder.items_seen, decoder.bytes_seen, decoder.records_seen, decoder.whole_records)
    return Reading(out, error, counts, decoder.proves_end)


def compare(make: MakeAnyDecoder, script: Script, *, framed: bool) -> Reading:
    """Compare readings with the compiled code and the fallback, each in pieces and in one piece.

    Return the reading of the fallback in one piece.

    Raises:
        AssertionError: the readings differ.
    """
    readings: dict[str, list[Reading]] = {}
    for kind in KINDS:
        with using(kind):
            readings[kind] = [read(make, pieces, framed=framed) for pieces in (script.pieces, [script.data])]
        in_pieces, at_once = readings[kind]
        assert in_pieces.shown == at_once.shown, (
            f"{kind}, in the pieces {script.pieces!r}:\n  {in_pieces.told}\nat once:\n  {at_once.told}"
        )
    pure = readings["pure"]
    for kind in KINDS:
        for ours, theirs in zip(readings[kind], pure, strict=True):
            assert ours.told == theirs.told, f"{kind}:\n  {ours.told}\npure:\n  {theirs.told}\nof {script!r}"
    return pure[1]


def compare_checkpoints(make: MakeAnyDecoder, script: Script) -> None:
    """Check that a new decoder can start at each checkpoint: it must give the items that follow in the whole stream.

    Raises:
        AssertionError: the items differ, or the new decoder raised an error.
    """
    whole = read(make, script.pieces, framed=True)
    if whole.error is not None or whole.counts[0] < len(whole.items):
        return
    decoder = make()
    for piece in script.pieces:
        decoder.feed(piece)
        place = decoder.checkpoint()
        if place is not None:
            rest = read(make, [place.before, script.data[place.byte_offset :]], framed=True)
            expected = f"{whole.items[place.item_index :]!r}"
            got = f"{rest.items!r}"
            assert rest.error is None, f"from {place}: {rest.error!r}, of {script!r}"
            assert got == expected, f"from {place}: got {got}, expected {expected}, of {script!r}"
