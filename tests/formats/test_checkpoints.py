"""Checkpoints: a new decoder that starts at a checkpoint returns the remaining items."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.formats import FORMATS
from tests.formats.reading import bytewise, checked_places, cuts, random_split, read
from tests.formats.samples import ITEMS, NAMES, written

WITH_PLACES = [name for name in NAMES if name != "sse"]


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_decoding_from_checkpoint_returns_the_rest(name: str, data: st.DataObject) -> None:
    stream = written(name, data.draw(ITEMS[name]))
    bom = b"\xef\xbb\xbf" * data.draw(st.integers(0, 1))
    checked_places(FORMATS[name].decoder, random_split(bom + stream, data.draw(cuts)))
    checked_places(FORMATS[name].decoder, bytewise(bom + stream))


ROWS = [{"n": index, "name": f"é{index}\n"} for index in range(20)]
TEXTS = {
    "json": json.dumps(ROWS, indent=1, ensure_ascii=False),
    "ndjson": "".join(f"{json.dumps(row, ensure_ascii=False)}\r\n\n \r\n" for row in ROWS),
    "json-seq": "".join(f"\x1e\x1e{json.dumps(row, ensure_ascii=False)}\n" for row in ROWS),
    "csv": '"a, ""b"\r\n' + "".join(f'"é""\r\n,{index}"\r\n\n' for index in range(20)),
    "text": "".join(f"{index}é\r\n\n" for index in range(20)),
}


@pytest.mark.parametrize("name", TEXTS)
def test_most_items_have_a_checkpoint(name: str) -> None:
    stream = TEXTS[name].encode()
    places = checked_places(FORMATS[name].decoder, bytewise(stream))
    assert {place.item_index for place in places} >= set(range(1, 19))


@pytest.mark.parametrize("name", WITH_PLACES)
def test_byte_order_mark_after_checkpoint_is_data(name: str) -> None:
    """A byte order mark after the start is a character in text and an error in JSON, also after a checkpoint."""
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
def test_no_checkpoint_after_an_error(name: str) -> None:
    decoder = FORMATS[name].decoder()
    stream = TEXTS[name].encode()
    assert decoder.feed(stream[: len(stream) // 2] + b"\xff" + stream[len(stream) // 2 :])
    assert decoder.checkpoint() is None
