"""testing/format_cases.py: our formats pass, and each case catches a format broken on purpose."""

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


async def test_our_formats_keep_their_promises() -> None:
    async def check(case: ConformanceCase) -> None:
        await case.run()

    await check_rows_async(named([case for name in NAMES for case in cases_of(name)]), check)


def test_case_gives_pytest_its_id() -> None:
    names = [case.name for name in NAMES for case in cases_of(name)]
    assert "ndjson-any-split-gives-the-same-items" in names
    assert len({*names}) == len(names)
    assert all(case.__name__ == case.name for case in cases_of("csv"))


class LineEncoder:
    """One line of JSON per item: a correct foreign format that the broken ones inherit from."""

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
    """Its decoder."""

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
    encoder=cast("Any", LineEncoder),  # it has only the methods that the cases call
    decoder=cast("Any", LineDecoder),
    keepalive=b"\n",
)


class WithAHeader(LineEncoder):
    """Forgets that its first batch was refused."""

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


class LosesTheItemsBeforeADefect(LineDecoder):
    def fail(self, error: DecodeError, items: list[Any]) -> list[Any]:
        return super().fail(error, [])


class RaisesADefectLate(LineDecoder):
    def feed(self, data: bytes) -> list[Any]:
        return super().feed(data) if data or self.failure is None else []


class TakesNothingForTheEnd(LineDecoder):
    def feed(self, data: bytes) -> list[Any]:
        if data:
            return super().feed(data)
        return self.finish()


class DropsWhatIsCut(LineDecoder):
    def unfinished(self, rest: bytes) -> list[Any]:
        return []


class TakesWhatIsCut(LineDecoder):
    def unfinished(self, rest: bytes) -> list[Any]:
        try:
            item = json.loads(rest)
        except ValueError:
            return super().unfinished(rest)
        self.items_seen += 1
        return [item]


class CallsACutADefect(LineDecoder):
    def unfinished(self, rest: bytes) -> list[Any]:
        raise DecodeError("cut")


class GivesNoItemsBeforeACut(LineDecoder):
    """Holds decoded items until the end."""

    def feed(self, data: bytes) -> list[Any]:
        self.held = [*getattr(self, "held", []), *super().feed(data)]
        return []

    def finish(self, *, framed: bool = False) -> list[Any]:
        super().finish(framed=framed)
        held, self.held = self.held, []
        return held


class MiscountsBeforeACut(LineDecoder):
    def unfinished(self, rest: bytes) -> list[Any]:
        raise TruncatedError("cut", items_seen=self.items_seen + 1)


class ForgetsAtTheEdge(LineDecoder):
    """Forgets the rest of a piece that ends in a quote."""

    def feed(self, data: bytes) -> list[Any]:
        items = super().feed(data)
        self.rest = self.rest if self.rest[-2:] != b' "' else self.rest[:-1]
        return items


class RaisesOfItsParser(LineDecoder):
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


class GivesTheLastTwice(LineDecoder):
    def finish(self, *, framed: bool = False) -> list[Any]:
        items = super().finish(framed=framed)
        self.ended = not hasattr(self, "ended")
        return items if self.ended else [1]


class WantsAnItem(LineDecoder):
    def finish(self, *, framed: bool = False) -> list[Any]:
        return super().finish(framed=framed) if self.items_seen else self.unfinished(b"")


class TakesBlankLinesForItems(LineDecoder):
    def feed(self, data: bytes) -> list[Any]:
        items = super().feed(data)
        return items or [None] * (data == b"\n" and not self.rest and bool(self.items_seen) and self.blank())

    def blank(self) -> bool:
        return True


class Bracketed(LineEncoder):
    """A format with an end mark..."""

    def finish(self) -> bytes:
        return b'"end"\n'


class DoesNotWantItsEnd(LineDecoder):
    """...whose decoder does not notice that it is missing."""

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
    """Return the cases that a format fails, with their messages."""
    said = {}
    for case in format_cases(format, ITEMS):
        try:
            await case.run()
        except AssertionError as error:
            said[case.name.removeprefix("lines-")] = str(error)
    return said


async def test_correct_foreign_format_keeps_its_promises() -> None:
    assert await verdicts(LINES) == {}


BROKEN: list[tuple[Format, str, str]] = [
    (broken(decoder=MakesFloats), "items-come-back", "expected"),
    (broken(decoder=DoesNotCount), "items-come-back", "items_seen"),
    (broken(decoder=GivesTheLastTwice), "items-come-back", "once more"),
    (broken(decoder=WantsAnItem), "an-empty-stream-comes-back", "TruncatedError"),
    (broken(EndsBatches), "batch-boundaries-do-not-show", "in batches of 1"),
    (broken(decoder=ForgetsAtTheEdge), "any-split-gives-the-same-items", "pieces"),
    (broken(decoder=TakesNothingForTheEnd), "feeding-nothing-is-not-the-end", "after each byte"),
    (broken(decoder=DropsWhatIsCut), "a-cut-is-told", "as if it were whole"),
    (broken(decoder=TakesWhatIsCut), "a-cut-is-told", "gave"),
    (broken(decoder=CallsACutADefect), "a-cut-is-told", "expected TruncatedError"),
    (broken(Bracketed, DoesNotWantItsEnd), "a-cut-is-told", "as if it were whole"),
    (broken(decoder=GivesNoItemsBeforeACut), "items-before-a-cut-are-given", "are complete"),
    (broken(decoder=MiscountsBeforeACut), "items-before-a-cut-are-given", "items_seen is"),
    (broken(decoder=LosesTheItemsBeforeADefect), "items-before-a-defect-are-given", "byte by byte"),
    (broken(decoder=RaisesADefectLate), "items-before-a-defect-are-given", "next call"),
    (broken(decoder=RaisesOfItsParser), "any-bytes-raise-only-stream-errors", "LookupError"),
    (broken(decoder=TakesBlankLinesForItems), "keepalive-between-items-is-ignored", "between its items"),
    (broken(WithAHeader), "a-refused-item-leaves-the-encoder-unchanged", "after an EncodeError"),
    (broken(CountsRefusedItems), "a-refused-item-leaves-the-encoder-unchanged", "item_index"),
    (broken(RaisesTypeErrors), "a-refused-item-leaves-the-encoder-unchanged", "TypeError"),
    (broken(EncodesAnything), "a-refused-item-leaves-the-encoder-unchanged", "rightly"),
]


async def test_broken_format_is_caught_by_the_case_of_its_promise() -> None:
    async def check(format: Format, name: str, text: str) -> None:
        said = await verdicts(format)
        assert text in said[name]

    names = [f"{row.encoder.__name__}-{row.decoder.__name__}" for row, *_ in BROKEN]  # type: ignore[attr-defined]
    await check_rows_async(dict(zip(names, BROKEN, strict=True)), check)


async def test_error_has_the_name_of_its_case() -> None:
    case = format_cases(broken(decoder=MakesFloats), ITEMS)[0]
    with pytest.raises(AssertionError) as caught:
        await case.run()
    assert caught.value.__notes__ == ["broken promise: lines-items-come-back"]


async def test_every_case_can_fail() -> None:
    caught = {name for row, *_ in BROKEN for name in await verdicts(row)}
    assert caught == {case.name.removeprefix("lines-") for case in format_cases(LINES, ITEMS)}


def test_cases_that_a_format_cannot_have_are_left_out() -> None:
    names = {case.name for case in format_cases(replace(LINES, keepalive=None), ITEMS, refused=[])}
    assert not [name for name in names if "keepalive" in name or "refused" in name]


@pytest.mark.parametrize(("items", "decoded"), [([], None), ([1, 2], [1])])
def test_items_that_prove_nothing_are_refused(items: list[Any], decoded: list[Any] | None) -> None:
    with pytest.raises(ValueError):
        format_cases(FORMATS["json"], items, decoded=decoded)


async def test_long_stream_is_checked_in_bounded_time() -> None:
    for case in format_cases(FORMATS["ndjson"], [{"n": index, "pad": "x" * 100} for index in range(100)]):
        await case.run()
