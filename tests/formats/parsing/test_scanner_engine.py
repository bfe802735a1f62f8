"""What the scanner leaves to the engine: values whose brackets it counts, and which the engine has to prove JSON."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, LimitError, StreamError
from chunkwise.formats import json_document
from chunkwise.formats.contract import Limits
from chunkwise.formats.json_document import JsonDecoder
from chunkwise.formats.parsing import scanner as scanner_pure
from chunkwise.formats.speedups import twins
from tests.formats.json_grammar import BAD, GOOD, documents
from tests.formats.reading import bytewise, cuts, random_split
from tests.formats.speedups.test_scanner_twins import PATHS, needs_both, spoilt, walk


class One(msgspec.Struct):
    """An item of which the engine skips nearly everything."""

    zz: Any = None
    raw: msgspec.Raw = msgspec.Raw(b"")


ENGINES = {kind: msgspec.json.Decoder(kind) for kind in (Any, msgspec.Raw, One, list[msgspec.Raw])}


def is_json(text: bytes) -> bool:
    scanner = scanner_pure.Scanner((), max_depth=512)
    try:
        scanner.scan(text, 0)
    except DecodeError:
        return False
    return scanner.complete


def assert_as_strict(text: bytes) -> None:
    """UTF-8 is looked at before, so it is no question here."""
    if text[:1] not in {b"{", b"["} or text.decode(errors="ignore").encode() != text:
        return
    for type_, engine in ENGINES.items():
        try:
            engine.decode(text)
        except msgspec.ValidationError:
            continue  # what behind it is wrong, it does not say
        except msgspec.DecodeError:
            assert not is_json(text), type_
        else:
            assert is_json(text), type_


@given(spoilt())
def test_the_engine_is_as_strict_also_in_what_it_skips(data: bytes) -> None:
    assert_as_strict(data)
    assert_as_strict(b'{"skipped":%b}' % data)
    assert_as_strict(b"[%b]" % data)


@pytest.mark.parametrize("data", [*GOOD.values(), *BAD.values()], ids=[*GOOD, *BAD])
def test_the_engine_is_as_strict_in_every_case_of_the_grammar(data: bytes) -> None:
    for around in (b"%b", b'{"skipped":%b}', b"[%b]", b'[{"a":[%b]}]'):
        assert_as_strict(around % data)


def decoded(pieces: list[bytes], path: Any, type_: Any, limits: Limits) -> list[Any]:
    """What a decoder gives for each piece, and what it says at last."""
    decoder = JsonDecoder(path, type=type_, limits=limits)
    seen: list[Any] = []
    try:
        for piece in pieces:
            seen.append(decoder.feed(piece))  # noqa: PERF401 - what came before an error counts
        seen.append(decoder.finish(framed=True))
        seen.append(decoder.proves_end)
    except StreamError as error:
        seen.append((type(error), str(error), vars(error)))
    return seen


@needs_both
@given(
    data=spoilt(),
    path=PATHS,
    type_=st.sampled_from([Any, msgspec.Raw, One]),
    depth=st.integers(1, 6) | st.just(512),
    size=st.integers(1, 40) | st.just(2**20),
    drawn=cuts,
)
def test_a_decoder_says_the_same_with_either_scanner(
    data: bytes, path: Any, type_: Any, depth: int, size: int, drawn: list[int]
) -> None:
    limits = Limits(max_depth=depth, max_item_bytes=size)
    for pieces in ([data], bytewise(data), random_split(data, drawn)):
        compiled = decoded(pieces, path or "", type_, limits)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_document, "Scanner", scanner_pure.Scanner)
            assert decoded(pieces, path or "", type_, limits) == compiled


@pytest.mark.parametrize("path", ["item", "item.item", "other", "item.other"])
@pytest.mark.parametrize("depth", range(1, 7))
def test_what_is_taken_by_its_brackets_is_not_deeper_than_allowed(path: str, depth: int) -> None:
    whole = b"[" * depth + b"1" + b"]" * depth
    decoder = JsonDecoder(path, limits=Limits(max_depth=depth))
    decoder.feed(whole)
    decoder.finish()
    assert decoder.proves_end
    with pytest.raises(LimitError, match="max_depth"):
        JsonDecoder(path, limits=Limits(max_depth=depth)).feed(b"[%b]" % whole)


@pytest.mark.parametrize("data", [b"[[4],5]", b"[[4] , 5", b"[[4]}", b"[[4]"])
def test_what_is_json_but_not_of_the_type_is_told_as_that(data: bytes) -> None:
    with pytest.raises(DecodeError, match="Expected `object`, got `array`"):
        JsonDecoder("item", type=One).feed(data)


@needs_both
@given(
    value=documents, before=st.integers(0, 130), behind=st.integers(0, 130), text=st.text('[]{}"\\,: é', max_size=140)
)
def test_values_end_where_they_end_wherever_a_block_begins(value: str, before: int, behind: int, text: str) -> None:
    member = msgspec.json.encode(text)
    item = b'{"a":%b,"b":%b,"c":[[%b],{}]}' % (member, value.encode(), member)
    data = b"[%b%b , %b%b]" % (b" " * before, item, item, b" " * behind)
    for parts in (("item",), ("a",), None, ("item", "b")):
        proven = walk(twins.Scanner, [data], {"parts": parts, "max_depth": 512}, framed=True)
        assert (
            walk(twins.Scanner, [data], {"parts": parts, "max_depth": 512, "proves_values": False}, framed=True)
            == proven
        )
        assert walk(scanner_pure.Scanner, [data], {"parts": parts, "max_depth": 512}, framed=True) == proven


@pytest.mark.parametrize("count", [1, 2, 3, 62, 63, 64, 65, 127, 128, 129])
def test_backslashes_over_the_end_of_a_block(count: int) -> None:
    for before in range(66):
        # An even number of them ends the string, an odd one does not.
        for end in (b'"', b'\\"]}"'):
            item = b'{"a":"%b%b%b,"b":"]}"}' % (b"x" * before, b"\\\\" * count, end)
            assert JsonDecoder("item").feed(b"[%b,%b]" % (item, item)) == [msgspec.json.decode(item)] * 2
        with pytest.raises(DecodeError, match="got ']', expected ',' or '}'"):
            JsonDecoder("item").feed(b'[{"a":"%b%b"]}"}]' % (b"x" * before, b"\\\\" * count))


# The pure twin counts a match that fails as if it had gone to the end of the window, far more than it looks at.
@pytest.mark.skipif(twins.KIND == "pure", reason="only the compiled scanner counts what it looks at to the byte")
def test_nothing_is_walked_over_and_over() -> None:
    for data in (
        b"[" * 500 + b'"xxx",' * 20_000,
        b"[%b]" % b",".join([b"[[[[[[[[" + b'"x",' * 2_000 + b"1]]]]]]]]"] * 10),
        b"[%b]" % b",".join(b"[" * 70 + b"]" * 70 for _ in range(1_000)),
        b"[%b]" % b",".join([b"[]", b"{}", b'{"a":[[[[[1]]]]]}', b"1"] * 10_000),
    ):
        for path in ("other", "item", "item.item"):
            for size in (4096, 32768):
                scanner = twins.Scanner(tuple(path.split(".")), max_depth=512, proves_values=False)
                window, position = b"", 0
                for start in range(0, len(data), size):
                    window += data[start : start + size]
                    position = scanner.scan(window, position)
                    scanner.clear()
                    drop = position if scanner.keep_from < 0 else scanner.keep_from
                    window, position = window[drop:], position - drop
                    scanner.shift(drop)
                assert scanner.bytes_walked <= 3 * len(data) + 3 * size
