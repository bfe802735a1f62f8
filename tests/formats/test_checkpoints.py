"""Places at which a new decoder can begin: from each, the rest of the stream is what the whole one gave."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.formats import FORMATS
from chunkwise.formats.contract import Checkpoint
from chunkwise.formats.paths import PathLike
from tests.formats.reading import bytewise, cuts, random_split, read
from tests.formats.samples import ITEMS, NAMES, written

WITH_PLACES = [name for name in NAMES if name != "sse"]


def places_in(name: str, pieces: list[bytes], path: PathLike = "") -> tuple[list[Checkpoint], list[Any]]:
    """All places of a stream that is fed in these pieces, and its items."""
    decoder = FORMATS[name].decoder(path)
    places, items = [], []
    for piece in pieces:
        items += decoder.feed(piece)
        if place := decoder.checkpoint():
            places.append(place)
    items += decoder.finish(framed=True)
    assert decoder.checkpoint() is None
    return places, items


def check(name: str, stream: bytes, pieces: list[bytes], path: PathLike = "") -> list[Checkpoint]:
    places, items = places_in(name, pieces, path)
    for place in set(places):
        assert place.byte_offset <= len(stream)
        decoder = FORMATS[name].decoder(path)
        assert decoder.feed(place.before) == []
        rest = decoder.feed(stream[place.byte_offset :])
        rest += decoder.finish(framed=True)
        assert repr(rest) == repr(items[place.item_index :])
    return places


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_from_each_place_the_rest_is_that_of_the_whole_stream(name: str, data: st.DataObject) -> None:
    stream = written(name, data.draw(ITEMS[name]))
    bom = b"\xef\xbb\xbf" * data.draw(st.integers(0, 1))
    check(name, bom + stream, random_split(bom + stream, data.draw(cuts)))
    check(name, bom + stream, bytewise(bom + stream))


ROWS = [{"n": index, "name": f"é{index}\n"} for index in range(20)]
TEXTS = {
    "json": json.dumps(ROWS, indent=1, ensure_ascii=False),
    "ndjson": "".join(f"{json.dumps(row, ensure_ascii=False)}\r\n\n \r\n" for row in ROWS),
    "json-seq": "".join(f"\x1e\x1e{json.dumps(row, ensure_ascii=False)}\n" for row in ROWS),
    "csv": '"a, ""b"\r\n' + "".join(f'"é""\r\n,{index}"\r\n\n' for index in range(20)),
    "text": "".join(f"{index}é\r\n\n" for index in range(20)),
}


@pytest.mark.parametrize("name", TEXTS)
def test_there_is_a_place_before_almost_every_item(name: str) -> None:
    stream = TEXTS[name].encode()
    places = check(name, stream, bytewise(stream))
    assert {place.item_index for place in places} >= set(range(1, 19))


TREE = {"other": [1, {"item": 2}], "item": {"item": 5, "a": 6, "x": ROWS}, "users": ROWS, "a": {"b": [[1], 2, []]}}


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("users.item", 20),
        ("users.item.name", 20),
        ("users.item.*", 40),
        ("*.item", 23),
        ("item.item", 1),
        ("item.*", 3),
        ("*.*.item", 23),
        ("*", 4),
        ((), 1),
        ("a.b.item.item", 1),
        (("item", "x", "item", "n"), 20),
    ],
)
def test_a_place_inside_a_document_is_led_to_by_the_brackets_that_are_open(path: PathLike, count: int) -> None:
    stream = json.dumps(TREE, ensure_ascii=False, indent=1).encode()
    assert len(places_in("json", [stream], path)[1]) == count
    places = check("json", stream, bytewise(stream), path)
    if path != ():
        assert {place.item_index for place in places} == set(range(1, count))


@pytest.mark.parametrize(
    ("row", "path"), [("   7  ,", "item"), ('{"a": "7" } , ', "item.a"), ('{"b":1,"a":[7]},', "item.*.item")]
)
def test_rows_of_one_length_do_not_hide_their_places_in_pieces_of_that_length(row: str, path: str) -> None:
    """Though each piece ends in the same place of a row, which may be one between the values."""
    stream = f"[{row * 50} {{}}]".encode()
    for phase in range(1, len(row) + 1):
        pieces = [stream[:phase], *(stream[at : at + len(row)] for at in range(phase, len(stream), len(row)))]
        places = check("json", stream, pieces, path)
        assert {place.item_index for place in places} >= set(range(1, 49))


@pytest.mark.parametrize("name", WITH_PLACES)
def test_what_looks_like_a_byte_order_mark_at_a_place_is_none(name: str) -> None:
    """It is text in text, and a defect in JSON: from a place as from the start."""
    lines = TEXTS[name].encode().splitlines(keepends=True)
    stream = b"".join(lines[:6]) + b"\xef\xbb\xbf" + b"".join(lines[6:])
    decoder = FORMATS[name].decoder()
    decoder.feed(b"".join(lines[:6]))
    place = decoder.checkpoint()
    assert place is not None
    whole = read(FORMATS[name].decoder, [stream], framed=True)
    rest = read(FORMATS[name].decoder, [place.before, stream[place.byte_offset :]], framed=True)
    assert repr(rest.items) == repr(whole.items[place.item_index :])
    assert type(rest.error) is type(whole.error)
    assert rest.failed == (name not in ("text", "csv"))


@pytest.mark.parametrize("name", WITH_PLACES)
def test_there_is_no_place_behind_a_defect(name: str) -> None:
    decoder = FORMATS[name].decoder()
    stream = TEXTS[name].encode()
    assert decoder.feed(stream[: len(stream) // 2] + b"\xff" + stream[len(stream) // 2 :])
    assert decoder.checkpoint() is None
