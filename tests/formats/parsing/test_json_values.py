"""formats/parsing/json_values.py: values that JSON cannot represent are refused; live parts are reported."""

import asyncio
import dataclasses
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, EncodeError, LimitError
from chunkwise.formats import FORMATS
from chunkwise.formats.parsing.json_values import LivePart, ValueDecoder, encode_array, encode_lines, encode_value
from tests.formats.samples import NAMES, values
from tests.tables import check_rows, cross, named


class Point(msgspec.Struct):
    x: Any
    y: Any = None


@dataclasses.dataclass
class Place:
    x: Any
    y: Any = None


def cyclic_list() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def cyclic_dict() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["a"] = [loop]
    return loop


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


REFUSED: dict[str, Any] = {
    "NaN": math.nan,
    "Infinity": math.inf,
    "minus Infinity": -math.inf,
    "minus NaN": -math.nan,
    "NaN in a list": [1.5, math.nan],
    "NaN in a tuple": (None, (math.nan,)),
    "NaN in a set": {math.nan},
    "NaN deep inside": {"a": [{"b": {"c": [None, math.nan]}}]},
    "NaN beside None": [None, None, math.nan, None],
    "NaN beside a big int": [2**70, None, math.inf],
    "NaN in a Struct": Point(x=math.nan),
    "NaN in a Struct in a dict": {"a": [Point(None, y=math.inf)]},
    "NaN in a dataclass": Place(x=[-math.inf]),
    "NaN beside the word null": ["null", math.nan],
    "lone surrogate": "\ud800",
    "lone surrogate deep inside": {"a": ["x", {"b": "\udfff x"}]},
    "lone surrogate in a name": {"x": {"\ud800": 1}},
    "an object": object(),
    "a complex number": [1, 1j],
    "a function": {"f": len},
    "a type": int,
    "an int that Python does not write": 10**5000,
    "a list that holds itself": cyclic_list(),
    "a dict that holds itself": cyclic_dict(),
    "too deep": nested(100_000),
}


def in_row(name: str, value: Any) -> Any:
    return {"a": value} if name == "csv" else value


def test_unencodable_value_error_has_its_index() -> None:
    def check(name: str, case: str) -> None:
        bad, good = in_row(name, REFUSED[case]), [in_row(name, item) for item in (0, None, "two", [3.5])]
        encoder, untouched = FORMATS[name].encoder(), FORMATS[name].encoder()
        assert encoder.start() == untouched.start()
        assert encoder.encode(good[:1]) == untouched.encode(good[:1])
        with pytest.raises(EncodeError) as caught:
            encoder.encode([good[1], good[2], bad, good[3]])
        assert caught.value.item_index == 3
        assert str(caught.value).count("(item") == 1
        with pytest.raises(EncodeError) as caught:
            encoder.encode([bad])
        assert caught.value.item_index == 1
        for batch in (good[1:3], good[3:]):
            assert encoder.encode(batch) == untouched.encode(batch)
        assert encoder.finish() == untouched.finish()

    check_rows(cross(named(NAMES), named(REFUSED)), check)


def test_refused_first_item_writes_nothing() -> None:
    def check(name: str, case: str) -> None:
        encoder, untouched = FORMATS[name].encoder(), FORMATS[name].encoder()
        with pytest.raises(EncodeError) as caught:
            encoder.encode([in_row(name, REFUSED[case])])
        assert caught.value.item_index == 0
        other = [{"b": 1}]
        assert encoder.start() + encoder.encode(other) == untouched.start() + untouched.encode(other)

    check_rows(cross(named(NAMES), named(REFUSED)), check)


@given(item=values, bad=st.sampled_from([math.nan, math.inf, -math.inf]), where=st.lists(st.booleans(), max_size=5))
def test_nan_and_infinity_are_refused(item: Any, bad: float, where: list[bool]) -> None:
    holder: Any = bad
    for in_list in where:
        holder = [item, holder] if in_list else {"a": holder, "b": item}
    with pytest.raises(EncodeError, match="NaN or Infinity"):
        encode_value(holder)


def test_values_similar_to_nan_are_encoded() -> None:
    def check(value: Any) -> None:
        data = encode_value(value)
        assert msgspec.json.decode(data) == value

    check_rows(named([None, "NaN", "null", [None], {"null": None}, 1.5, 2**70, [None, 2**70, 1e308]]), check)


def test_deep_item_is_encoded_beside_none_and_big_ints() -> None:
    item: Any = [None, 2**70]
    for _ in range(511):
        item = [item]
    assert encode_value(item).count(b"[") == 512


async def agen() -> AsyncIterator[int]:
    yield 1


def gen() -> Iterator[int]:
    yield 1


async def later() -> int:
    return 1


@pytest.fixture(params=["generator", "async generator", "coroutine", "future", "map", "iterator"])
def live(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "coroutine":
        coroutine = later()
        yield coroutine
        coroutine.close()
    elif request.param == "future":
        loop = asyncio.new_event_loop()
        yield loop.create_future()
        loop.close()
    else:
        yield {"generator": gen(), "async generator": agen(), "map": map(str, [1]), "iterator": iter([1])}[
            request.param
        ]


def test_live_part_has_its_index_in_the_batch(live: Any) -> None:
    def check(name: str, inside: bool) -> None:
        item = {"a": [1, {"b": live}]} if inside else live
        encoder, untouched = FORMATS[name].encoder(), FORMATS[name].encoder()
        assert encoder.encode([7, 8]) == untouched.encode([7, 8])
        for batch in ([item], ["x", 1, item, 2], [None, item, item], (0, item)):
            with pytest.raises(LivePart) as caught:
                encoder.encode(batch)
            assert caught.value.index == next(index for index, each in enumerate(batch) if each is item)
        assert encoder.encode([9]) == untouched.encode([9])
        for step in ("open_item", "close_item"):
            assert getattr(encoder, step)() == getattr(untouched, step)()

    check_rows(cross(named([name for name in NAMES if name != "csv"]), {"itself": False, "inside": True}), check)


def test_error_before_live_part_is_raised_first() -> None:
    encoder = FORMATS["json"].encoder()
    with pytest.raises(EncodeError) as caught:
        encoder.encode([1, math.nan, gen()])
    assert caught.value.item_index == 1
    with pytest.raises(LivePart) as live_part:
        encoder.encode([1, gen(), math.nan])
    assert live_part.value.index == 1


def test_raw_json_is_written_on_one_line() -> None:
    raw, line = msgspec.Raw(b'{\n "a":\r\n 1.50}\n'), b'{"a":1.50}'
    assert encode_lines([raw, 1, {"b": raw}], 0) == line + b'\n1\n{"b":' + line + b"}\n"
    assert encode_array([raw, 1, {"b": raw}], 0) == b"[" + line + b',1,{"b":' + line + b"}]"
    assert encode_value(raw) == line
    assert encode_lines([msgspec.Raw(b' {"a": 1}')], 0) == b' {"a": 1}\n'
    for encode in (encode_lines, encode_array):
        with pytest.raises(EncodeError, match="not valid JSON") as caught:
            encode([1, msgspec.Raw(b"1\n2")], 5)
        assert caught.value.item_index == 6


@pytest.mark.parametrize("blank", [b"", b" ", b"\t", b"\n", b"\r\n ", b" " * 40])
def test_blank_raw_json_is_refused(blank: bytes) -> None:
    for before in range(20):
        with pytest.raises(EncodeError, match="blank") as caught:
            encode_lines([*range(before), msgspec.Raw(blank), 1], 5)
        assert caught.value.item_index == 5 + before
    with pytest.raises(EncodeError, match="blank") as caught:  # without the check, the result would be an empty array
        encode_array([msgspec.Raw(blank)], 5)
    assert caught.value.item_index == 5
    with pytest.raises(EncodeError, match="blank"):
        encode_value(msgspec.Raw(blank))


def test_item_too_deep_in_array_is_refused() -> None:
    taken, refused = 1, 100_000
    message = ""
    while refused - taken > 1:  # up to the smallest depth that is refused
        depth = (taken + refused) // 2
        try:
            encode_array([nested(depth)], 5)
            taken = depth
        except EncodeError as error:
            refused, message = depth, str(error)
    assert message == "msgspec could not encode the batch, although it could encode each item of it (item 5)"


def test_item_too_deep_by_itself_is_refused() -> None:
    for encode in (encode_array, encode_lines):
        with pytest.raises(EncodeError, match="too deep") as caught:
            encode([1, nested(100_000)], 5)
        assert caught.value.item_index == 6


def test_error_index_counts_from_stream_start() -> None:
    for text, place in ((b"[1,}", 103), (b"[1", 100), (b"nul", 100)):
        with pytest.raises(DecodeError) as caught:
            ValueDecoder().one(text, 100)
        assert caught.value.message.startswith("malformed JSON: " if place == 100 else "JSON is malformed: ")
        assert (caught.value.byte_offset, "byte" in caught.value.message) == (place, False)


class Picky(msgspec.Struct):
    a: str

    def __post_init__(self) -> None:
        msg = f"{self.a} (byte 3) is no base64"
        raise msgspec.DecodeError(msg)


def test_value_of_user_type_is_encoded() -> None:
    with pytest.raises(DecodeError) as caught:
        ValueDecoder(Picky).one(b'{"a":"x"}', 100)
    assert (caught.value.message, caught.value.byte_offset) == ("x (byte 3) is no base64", 100)


class TestValueDecoder:
    @pytest.mark.parametrize(
        ("text", "error", "message"),
        [
            (b'"a"', DecodeError, "Expected `int`, got `str`"),
            (b'"\xff"', DecodeError, "invalid UTF-8"),
            (b"[" * 100_000 + b"]" * 100_000, LimitError, "max_depth"),
            (b"1 2", DecodeError, "JSON is malformed"),
        ],
        ids=["of another type", "UTF-8", "depth", "two"],
    )
    def test_error_in_one_text_has_its_offset(self, text: bytes, error: type[DecodeError], message: str) -> None:
        kind: Any = str if b"\xff" in text else Any if b"[" in text else int
        with pytest.raises(error, match=message) as caught:
            ValueDecoder(kind).one(text, 100)
        assert type(caught.value) is error
        assert 100 <= (caught.value.byte_offset or 0) <= 100 + len(text)

    def test_many_texts_are_decoded_in_one_call(self) -> None:
        assert ValueDecoder().array(b'[1,"a", [2] ]') == [1, "a", [2]]
        assert ValueDecoder().lines(b'1\n"a"\r\n [2] ') == [1, "a", [2]]
        assert ValueDecoder(Place).array(b'[{"x":1}]') == ValueDecoder(Place).lines(b'{"x":1}') == [Place(1)]

    def test_invalid_texts_are_decoded_one_by_one(self) -> None:
        def check(wrong: bytes) -> None:
            for run in (wrong, b"1\n" + wrong, wrong + b"\n1"):
                assert ValueDecoder().lines(run) is None
            if wrong not in (b"", b" ", b"1,2", b"1],[2"):
                assert ValueDecoder().array(b"[%b]" % wrong) is None
            assert ValueDecoder(int).lines(b'1\n"a"') is ValueDecoder(int).array(b'[1,"a"]') is None

        check_rows(
            named([b"", b" ", b"1 2", b"1,2", b"1][2", b"1],[2", b"[1", b'"\xff"'])
            | {"100,000 deep": b"[" * 100_000 + b"]" * 100_000},
            check,
        )


@pytest.mark.usefixtures("speedups_and_fallback")
def test_arbitrary_iterable_is_refused() -> None:
    class Model:
        def __iter__(self) -> object:
            return iter([("id", 1)])

    with pytest.raises(TypeError, match="JSON cannot represent a value of type Model"):
        encode_array([Model()], 0)
