"""testing/format_cases.py: the built-in formats pass, and each case fails for a format that is broken on purpose."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from chunkwise.errors import DecodeError, EncodeError, TruncatedError
from chunkwise.formats import FORMATS, Format
from chunkwise.testing import ConformanceCase, format_cases
from tests.formats.samples import NAMES
from tests.tables import check_rows_async, named
from tests.testing.samples import cases_of


async def test_builtin_formats_keep_their_promises() -> None:
    async def check(case: ConformanceCase) -> None:
        await case.run()

    await check_rows_async(named([case for name in NAMES for case in cases_of(name)]), check)


def test_case_has_an_id_for_pytest() -> None:
    names = [case.name for name in NAMES for case in cases_of(name)]
    assert "ndjson-any-split-gives-the-same-items" in names
    assert len({*names}) == len(names)
    assert all(case.__name__ == case.name for case in cases_of("csv"))


class LineEncoder:
    """The encoder of a correct custom format, one line of JSON per item. The broken encoders inherit from it."""

    def __init__(self, **_: Any) -> None:
        self.count = 0

    def start(self) -> bytes:
        return b""

    def encode(self, batch: Sequence[Any]) -> bytes:
        lines = []
        for index, item in enumerate(batch, self.count):
            try:
                lines.append(self.line(item))
            except TypeError as error:
                raise EncodeError(str(error), item_index=index) from error
        self.count += len(batch)
        return b"".join(lines)

    def line(self, item: Any) -> bytes:
        return json.dumps(item).encode() + b"\n"

    def open_item(self) -> bytes:
        raise EncodeError("lines are not written in parts")

    def close_item(self) -> bytes:
        return b""

    def finish(self) -> bytes:
        return b""


class LineDecoder:
    """The decoder of the correct custom format. The broken decoders inherit from it."""

    def __init__(self, path: Any = "", **_: Any) -> None:
        self.items_seen = 0
        self.bytes_seen = 0
        self.rest = b""
        self.failure: Exception | None = None

    def feed(self, data: bytes) -> list[Any]:
        if self.failure is not None:
            raise self.failure
        self.bytes_seen += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        items = []
        for line in lines:
            if not line.strip():
                continue
            try:
                items.append(self.item(line))
            except ValueError as error:
                return self.fail(DecodeError(str(error)), items)
        self.items_seen += len(items)
        return items

    def item(self, line: bytes) -> Any:
        return json.loads(line)

    def fail(self, error: DecodeError, items: list[Any]) -> list[Any]:
        self.failure = error
        self.items_seen += len(items)
        if not items:
            raise error
        return items

    def finish(self, *, framed: bool = False) -> list[Any]:
        if self.failure is not None:
            raise self.failure
        rest, self.rest = self.rest, b""
        if rest.strip():
            return self.unfinished(rest)
        return []

    def unfinished(self, rest: bytes) -> list[Any]:
        self.failure = TruncatedError("cut", items_seen=self.items_seen, bytes_seen=self.bytes_seen)
        raise self.failure


LINES = Format(
    name="lines",
    media_types=("text/x-lines",),
    suffixes=(".lines",),
    encoder=cast("Any", LineEncoder),  # the class has only the methods that the cases call
    decoder=cast("Any", LineDecoder),
    keepalive=b"\n",
)


class WritesHeaderOnce(LineEncoder):
    """Writes its header with the first batch, even if that batch is rejected, so the header is lost."""

    def encode(self, batch: Sequence[Any]) -> bytes:
        first, self.begun = not hasattr(self, "begun"), True
        return (b"\n" if first else b"") + super().encode(batch)


class CountsRefusedItems(LineEncoder):
    def encode(self, batch: Sequence[Any]) -> bytes:
        try:
            return super().encode(batch)
        except EncodeError:
            self.count += len(batch)
            raise


class RaisesTypeErrors(LineEncoder):
    def encode(self, batch: Sequence[Any]) -> bytes:
        return b"".join(map(self.line, batch))


class EncodesAnything(LineEncoder):
    def line(self, item: Any) -> bytes:
        return json.dumps(item, default=str).encode() + b"\n"


class EndsBatches(LineEncoder):
    def encode(self, batch: Sequence[Any]) -> bytes:
        return super().encode(batch) + b"\n"


class LosesItemsBeforeDefect(LineDecoder):
    def fail(self, error: DecodeError, items: list[Any]) -> list[Any]:
        return super().fail(error, [])


class RaisesDefectLate(LineDecoder):
    def feed(self, data: bytes) -> list[Any]:
        return super().feed(data) if data or self.failure is None else []


class TreatsEmptyFeedAsEnd(LineDecoder):
    def feed(self, data: bytes) -> list[Any]:
        if data:
            return super().feed(data)
        return self.finish()


class DropsCutItem(LineDecoder):
    def unfinished(self, rest: bytes) -> list[Any]:
        return []


class AcceptsCutItem(LineDecoder):
    def unfinished(self, rest: bytes) -> list[Any]:
        try:
            item = json.loads(rest)
        except ValueError:
            return super().unfinished(rest)
        self.items_seen += 1
        return [item]


class RaisesDecodeErrorForCut(LineDecoder):
    def unfinished(self, rest: bytes) -> list[Any]:
        raise DecodeError("cut")


class HoldsItemsUntilTheEnd(LineDecoder):
    """Returns all items at the end instead of as soon as they are decoded."""

    def feed(self, data: bytes) -> list[Any]:
        self.held = [*getattr(self, "held", []), *super().feed(data)]
        return []

    def finish(self, *, framed: bool = False) -> list[Any]:
        super().finish(framed=framed)
        held, self.held = self.held, []
        return held


class MiscountsItemsBeforeCut(LineDecoder):
    def unfinished(self, rest: bytes) -> list[Any]:
        raise TruncatedError("cut", items_seen=self.items_seen + 1)


class LosesByteAtSplit(LineDecoder):
    """Loses a byte if a piece of the stream ends with a space and a quote."""

    def feed(self, data: bytes) -> list[Any]:
        items = super().feed(data)
        self.rest = self.rest if self.rest[-2:] != b' "' else self.rest[:-1]
        return items


class RaisesParserErrors(LineDecoder):
    def item(self, line: bytes) -> Any:
        try:
            return json.loads(line)
        except ValueError as error:
            raise LookupError(line) from error


class MakesFloats(LineDecoder):
    def item(self, line: bytes) -> Any:
        return json.loads(line, parse_int=float)


class DoesNotCount(LineDecoder):
    def feed(self, data: bytes) -> list[Any]:
        items = super().feed(data)
        self.items_seen = 0
        return items


class ReturnsItemTwice(LineDecoder):
    def finish(self, *, framed: bool = False) -> list[Any]:
        items = super().finish(framed=framed)
        self.ended = not hasattr(self, "ended")
        return items if self.ended else [1]


class RejectsEmptyStream(LineDecoder):
    def finish(self, *, framed: bool = False) -> list[Any]:
        return super().finish(framed=framed) if self.items_seen else self.unfinished(b"")


class DecodesKeepaliveAsItem(LineDecoder):
    def feed(self, data: bytes) -> list[Any]:
        items = super().feed(data)
        return items or [None] * (data == b"\n" and not self.rest and bool(self.items_seen) and self.blank())

    def blank(self) -> bool:
        return True


class WithEndMark(LineEncoder):
    """The encoder of a format that has an end mark."""

    def finish(self) -> bytes:
        return b'"end"\n'


class IgnoresMissingEnd(LineDecoder):
    """A decoder that does not notice a missing end mark."""

    def item(self, line: bytes) -> Any:
        return json.loads(line)

    def feed(self, data: bytes) -> list[Any]:
        items = [item for item in super().feed(data) if item != "end"]
        self.items_seen -= "end" in items
        return items


def broken(encoder: Any = LineEncoder, decoder: Any = LineDecoder) -> Format:
    return replace(LINES, encoder=encoder, decoder=decoder)


ITEMS: list[Any] = [{"a": 1, "b": "x y"}, {"a": 12, "b": "z"}, [1, "two"], 123]


async def verdicts(format: Format) -> dict[str, str]:
    """Return the names of the cases that a format fails, with their messages."""
    said = {}
    for case in format_cases(format, ITEMS):
        try:
            await case.run()
        except AssertionError as error:
            said[case.name.removeprefix("lines-")] = str(error)
    return said


async def test_correct_custom_format_passes() -> None:
    assert await verdicts(LINES) == {}


BROKEN: list[tuple[Format, str, str]] = [
    (broken(decoder=MakesFloats), "items-are-decoded", "expected"),
    (broken(decoder=DoesNotCount), "items-are-decoded", "items_seen"),
    (broken(decoder=ReturnsItemTwice), "items-are-decoded", "called twice"),
    (broken(decoder=RejectsEmptyStream), "empty-stream-is-decoded", "TruncatedError"),
    (broken(EndsBatches), "batch-sizes-do-not-change-the-bytes", "in batches of 1"),
    (broken(decoder=LosesByteAtSplit), "any-split-gives-the-same-items", "pieces"),
    (broken(decoder=TreatsEmptyFeedAsEnd), "feeding-no-bytes-changes-nothing", "after each byte"),
    (broken(decoder=DropsCutItem), "cut-is-detected", "as if it were complete"),
    (broken(decoder=AcceptsCutItem), "cut-is-detected", "gave"),
    (broken(decoder=RaisesDecodeErrorForCut), "cut-is-detected", "expected TruncatedError"),
    (broken(WithEndMark, IgnoresMissingEnd), "cut-is-detected", "as if it were complete"),
    (broken(decoder=HoldsItemsUntilTheEnd), "items-before-a-cut-are-returned", "are complete"),
    (broken(decoder=MiscountsItemsBeforeCut), "items-before-a-cut-are-returned", "items_seen is"),
    (broken(decoder=LosesItemsBeforeDefect), "items-before-a-defect-are-returned", "byte by byte"),
    (broken(decoder=RaisesDefectLate), "items-before-a-defect-are-returned", "next call"),
    (broken(decoder=RaisesParserErrors), "any-bytes-raise-only-stream-errors", "LookupError"),
    (broken(decoder=DecodesKeepaliveAsItem), "keepalive-between-items-is-ignored", "between its items"),
    (broken(WritesHeaderOnce), "refused-item-leaves-the-encoder-unchanged", "after an EncodeError"),
    (broken(CountsRefusedItems), "refused-item-leaves-the-encoder-unchanged", "item_index"),
    (broken(RaisesTypeErrors), "refused-item-leaves-the-encoder-unchanged", "TypeError"),
    (broken(EncodesAnything), "refused-item-leaves-the-encoder-unchanged", "in `refused`"),
]


async def test_broken_format_fails_the_expected_case() -> None:
    async def check(format: Format, name: str, text: str) -> None:
        said = await verdicts(format)
        assert text in said[name]

    names = [f"{row.encoder.__name__}-{row.decoder.__name__}" for row, *_ in BROKEN]  # type: ignore[attr-defined]
    await check_rows_async(dict(zip(names, BROKEN, strict=True)), check)


async def test_error_names_its_case() -> None:
    case = format_cases(broken(decoder=MakesFloats), ITEMS)[0]
    with pytest.raises(AssertionError) as caught:
        await case.run()
    assert caught.value.__notes__ == ["broken promise: lines-items-are-decoded"]


async def test_every_case_fails_for_some_format() -> None:
    caught = {name for row, *_ in BROKEN for name in await verdicts(row)}
    assert caught == {case.name.removeprefix("lines-") for case in format_cases(LINES, ITEMS)}


def test_inapplicable_cases_are_left_out() -> None:
    names = {case.name for case in format_cases(replace(LINES, keepalive=None), ITEMS, refused=[])}
    assert not [name for name in names if "keepalive" in name or "refused" in name]


@pytest.mark.parametrize(("items", "decoded"), [([], None), ([1, 2], [1])])
def test_unusable_items_are_rejected(items: list[Any], decoded: list[Any] | None) -> None:
    with pytest.raises(ValueError):
        format_cases(FORMATS["json"], items, decoded=decoded)


async def test_long_stream_is_checked_in_bounded_time() -> None:
    for case in format_cases(FORMATS["ndjson"], [{"n": index, "pad": "x" * 100} for index in range(100)]):
        await case.run()
