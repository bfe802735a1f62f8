"""msgspec refuses every selected value that is not JSON: the scanner only counts their brackets."""

from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, LimitError, StreamError
from chunkwise.formats import json_document
from chunkwise.formats.contract import Limits
from chunkwise.formats.json_document import JsonDecoder
from chunkwise.formats.speedups import fallback
from tests.formats.json_grammar import BAD, GOOD, documents
from tests.formats.reading import bytewise, cuts, random_split
from tests.formats.speedups.test_scanner import PATHS, spoilt, walk
from tests.tables import check_rows, cross, named


class One(msgspec.Struct):
    """The type of an item: msgspec skips nearly all members."""

    zz: Any = None
    raw: msgspec.Raw = msgspec.Raw(b"")


ENGINES = {kind: msgspec.json.Decoder(kind) for kind in (Any, msgspec.Raw, One, list[msgspec.Raw])}


def is_json(text: bytes) -> bool:
    scanner = fallback.Scanner((), max_depth=512)
    try:
        scanner.scan(text, 0)
    except DecodeError:
        return False
    return scanner.complete


def assert_as_strict(text: bytes) -> None:
    """Check that msgspec refuses what the scanner refuses; UTF-8 is checked before both."""
    if text[:1] not in {b"{", b"["} or text.decode(errors="ignore").encode() != text:
        return
    for type_, engine in ENGINES.items():
        try:
            engine.decode(text)
        except msgspec.ValidationError:
            continue  # msgspec does not read the bytes after that
        except msgspec.DecodeError:
            assert not is_json(text), type_
        else:
            assert is_json(text), type_


@given(spoilt())
def test_msgspec_checks_values_it_skips(data: bytes) -> None:
    assert_as_strict(data)
    assert_as_strict(b'{"skipped":%b}' % data)
    assert_as_strict(b"[%b]" % data)


def test_msgspec_refuses_all_invalid_json() -> None:
    def check(data: bytes) -> None:
        for around in (b"%b", b'{"skipped":%b}', b"[%b]", b'[{"a":[%b]}]'):
            assert_as_strict(around % data)

    check_rows(GOOD, check)
    check_rows(BAD, check)


def decoded(pieces: list[bytes], path: Any, type_: Any, limits: Limits) -> list[Any]:
    """Return the items of each chunk, and the end or the error."""
    decoder = JsonDecoder(path, type=type_, limits=limits)
    seen: list[Any] = []
    try:
        for piece in pieces:
            seen.append(decoder.feed(piece))  # noqa: PERF401 - items before an error count
        seen.append(decoder.finish(framed=True))
        seen.append(decoder.proves_end)
    except StreamError as error:
        seen.append((type(error), str(error), vars(error)))
    return seen


@given(
    data=spoilt(),
    path=PATHS,
    type_=st.sampled_from([Any, msgspec.Raw, One]),
    depth=st.integers(1, 6) | st.just(512),
    size=st.integers(1, 40) | st.just(2**20),
    drawn=cuts,
)
def test_both_scanners_give_the_same_items(
    compiled: ModuleType, data: bytes, path: Any, type_: Any, depth: int, size: int, drawn: list[int]
) -> None:
    limits = Limits(max_depth=depth, max_item_bytes=size)
    for pieces in ([data], bytewise(data), random_split(data, drawn)):
        results = []
        for code in (compiled, fallback):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(json_document, "Scanner", code.Scanner)
                results.append(decoded(pieces, path or "", type_, limits))
        assert results[0] == results[1]


def test_depth_limit_applies_when_counting_brackets() -> None:
    def check(path: str, depth: int) -> None:
        whole = b"[" * depth + b"1" + b"]" * depth
        decoder = JsonDecoder(path, limits=Limits(max_depth=depth))
        decoder.feed(whole)
        decoder.finish()
        assert decoder.proves_end
        with pytest.raises(LimitError, match="max_depth"):
            JsonDecoder(path, limits=Limits(max_depth=depth)).feed(b"[%b]" % whole)

    check_rows(cross(named(["item", "item.item", "other", "item.other"]), named(range(1, 7))), check)


def test_json_of_wrong_type_is_a_type_error() -> None:
    def check(data: bytes) -> None:
        with pytest.raises(DecodeError, match="Expected `object`, got `array`"):
            JsonDecoder("item", type=One).feed(data)

    check_rows(named([b"[[4],5]", b"[[4] , 5", b"[[4]}", b"[[4]"]), check)


@given(
    value=documents, before=st.integers(0, 130), after=st.integers(0, 130), text=st.text('[]{}"\\,: é', max_size=140)
)
def test_value_end_is_found_at_every_offset(
    compiled: ModuleType, value: str, before: int, after: int, text: str
) -> None:
    member = msgspec.json.encode(text)
    item = b'{"a":%b,"b":%b,"c":[[%b],{}]}' % (member, value.encode(), member)
    data = b"[%b%b , %b%b]" % (b" " * before, item, item, b" " * after)
    for parts in (("item",), ("a",), None, ("item", "b")):
        limits = {"parts": parts, "max_depth": 512}
        expected = walk(fallback.Scanner, [data], limits, framed=True)
        for proves_values in (True, False):
            assert walk(compiled.Scanner, [data], {**limits, "proves_values": proves_values}, framed=True) == expected


def test_backslashes_across_blocks_are_handled() -> None:
    def check(count: int) -> None:
        for before in range(66):
            # A quote after an even number of backslashes ends the string; after an odd number it does not.
            for end in (b'"', b'\\"]}"'):
                item = b'{"a":"%b%b%b,"b":"]}"}' % (b"x" * before, b"\\\\" * count, end)
                assert JsonDecoder("item").feed(b"[%b,%b]" % (item, item)) == [msgspec.json.decode(item)] * 2
            with pytest.raises(DecodeError, match="got ']', expected ',' or '}'"):
                JsonDecoder("item").feed(b'[{"a":"%b%b"]}"}]' % (b"x" * before, b"\\\\" * count))

    check_rows(named([1, 2, 3, 62, 63, 64, 65, 127, 128, 129]), check)


# Only for the compiled scanner: the fallback counts all bytes up to the end of the window for each failed match.
def test_bytes_are_scanned_at_most_three_times(compiled: ModuleType) -> None:
    for data in (
        b"[" * 500 + b'"xxx",' * 20_000,
        b"[%b]" % b",".join([b"[[[[[[[[" + b'"x",' * 2_000 + b"1]]]]]]]]"] * 10),
        b"[%b]" % b",".join(b"[" * 70 + b"]" * 70 for _ in range(1_000)),
        b"[%b]" % b",".join([b"[]", b"{}", b'{"a":[[[[[1]]]]]}', b"1"] * 10_000),
    ):
        for path in ("other", "item", "item.item"):
            for size in (4096, 32768):
                scanner = compiled.Scanner(tuple(path.split(".")), max_depth=512, proves_values=False)
                window, position = b"", 0
                for start in range(0, len(data), size):
                    window += data[start : start + size]
                    position = scanner.scan(window, position)
                    scanner.clear()
                    drop = position if scanner.keep_from < 0 else scanner.keep_from
                    window, position = window[drop:], position - drop
                    scanner.shift(drop)
                assert scanner.bytes_walked <= 3 * len(data) + 3 * size
