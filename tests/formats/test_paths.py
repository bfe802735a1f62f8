"""formats/paths.py: a path selects the same values in a JSON document as simple search code."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import PathNotFound, TruncatedError
from chunkwise.formats.json_document import JsonDecoder
from chunkwise.formats.paths import PathLike, parse_path
from tests.formats.json_grammar import NAMES, Members, documents, plain
from tests.formats.reading import Reading, bytewise, cuts, every_split, random_split, read
from tests.tables import check_rows, named

pytestmark = pytest.mark.usefixtures("speedups_and_fallback")


def test_path_is_split_at_dots_into_parts() -> None:
    assert parse_path("users.item.name") == ("users", "item", "name")
    assert parse_path("") is None
    assert parse_path(()) == ()
    assert parse_path(".") == ("", "")
    assert parse_path(("first.name", "x")) == ("first.name", "x")


def select(value: Any, parts: tuple[str, ...]) -> Iterator[Any]:
    """Return the values at a path, found by simple search code."""
    if not parts:
        yield plain(value)
    elif isinstance(value, Members):
        for name, member in value:
            if parts[0] in ("*", name):
                yield from select(member, parts[1:])
    elif isinstance(value, list) and parts[0] == "item":
        for element in value:
            yield from select(element, parts[1:])


def containers(value: Any, parts: tuple[str, ...]) -> Iterator[Any]:
    """Search a value in which objects keep repeated names in order."""
    if not parts:
        yield value
    elif isinstance(value, list):
        pairs = value if isinstance(value, Members) else [("item", element) for element in value]
        for name, member in pairs:
            if name == parts[0] or (parts[0] == "*" and isinstance(value, Members)):
                yield from containers(member, parts[1:])


def is_found(value: Any, parts: tuple[str, ...]) -> bool:
    if any(True for _ in select(value, parts)):
        return True
    holders = containers(value, parts[:-1])
    return any(
        isinstance(each, list) and parts[-1] == ("*" if isinstance(each, Members) else "item") for each in holders
    )


@given(text=documents, parts=st.lists(st.sampled_from([*NAMES, "item", "*"]), max_size=4), drawn=cuts)
def test_path_selects_the_same_as_simple_code(text: str, parts: list[str], drawn: list[int]) -> None:
    data, path = text.encode(), tuple(parts)
    document = json.loads(text, object_pairs_hook=Members)
    expected = repr(list(select(document, path)))
    paths: list[PathLike] = [path]
    if path not in ((), ("",)) and not any("." in part for part in path):
        paths.append(".".join(path))
    for spelling in paths:
        for pieces in ([data], bytewise(data), random_split(data, drawn)):
            got = read(lambda spelling=spelling: JsonDecoder(spelling, required=True), pieces)  # type: ignore[misc]
            assert repr(got.items) == expected
            assert type(got.error) is (type(None) if is_found(document, path) else PathNotFound)
        assert read(lambda spelling=spelling: JsonDecoder(spelling), [data]).error is None  # type: ignore[misc]


@given(text=documents)
def test_empty_path_selects_elements_or_document(text: str) -> None:
    value = json.loads(text)
    expected = value if isinstance(value, list) else [value]
    for pieces in every_split(text.encode()):
        got = read(lambda: JsonDecoder(required=True), pieces)
        assert repr(got) == repr(Reading(expected, None))


def test_path_selects_the_expected_items() -> None:
    def check(data: bytes, path: PathLike, items: list[Any]) -> None:
        for pieces in every_split(data):
            assert read(lambda: JsonDecoder(path, required=True), pieces) == (items, None)

    check_rows(
        named(
            [
                (b'{"users":[]}', "users.item", []),
                (b'{"users":[{"name":"a"},{},{"name":"b"}]}', "users.item.name", ["a", "b"]),
                (b'{"users":{"item":5}}', "users.item", [5]),
                (b'{"a":{"x":1},"b":{"x":2}}', "*.x", [1, 2]),
                (b"{}", "*", []),
                (b'{"first.name":1,"first":{"name":2}}', ("first.name",), [1]),
                (b'{"first.name":1,"first":{"name":2}}', "first.name", [2]),
                (rb'{"\u0075sers":[1]}', "users.item", [1]),
                (rb'{"a\"b\\c":1}', ('a"b\\c',), [1]),
                ('{"é":1,"\\u00e9":2}'.encode(), "é", [1, 2]),
                (rb'{"\ud83d\ude00":1}', "😀", [1]),
                (b'{"a":1,"a":2}', "a", [1, 2]),
                (b'{"":{"":3}}', ".", [3]),
                (b"[[1,2],[],[3]]", "item.item", [1, 2, 3]),
                (b"[[1],2,{}]", "item", [[1], 2, {}]),
                (b'[[1,{"x":[[]]}],2]', (), [[[1, {"x": [[]]}], 2]]),
                (b'"text"', "", ["text"]),
                (b"[]", "", []),
            ]
        ),
        check,
    )


def test_path_may_select_nothing() -> None:
    def check(data: bytes, path: str) -> None:
        for pieces in every_split(data):
            got = read(lambda: JsonDecoder(path, required=True), pieces)
            assert got.items == []
            assert isinstance(got.error, PathNotFound)
            assert path in str(got.error)
            assert read(lambda: JsonDecoder(path), pieces) == ([], None)

    check_rows(
        named(
            [
                (b'{"users":[]}', "users.item.name"),
                (b'{"users":{}}', "users.item"),
                (b'{"users":[1]}', "users.*"),
                (b'{"users":1}', "users.item"),
                (b'{"user":[1]}', "users.item"),
                (b'{"users":[1]}', "item"),
                (b"[]", "a"),
                (b"1 ", "item"),
                (b'{"a":{"users":[1]}}', "users.item"),
            ]
        ),
        check,
    )


def test_error_names_missing_path() -> None:
    decoder = JsonDecoder(("a", "b"), required=True)
    decoder.feed(b'{"a":1}')
    with pytest.raises(PathNotFound, match=r"path 'a\.b' was not found"):
        decoder.finish()


def test_truncation_differs_from_missing_path() -> None:
    assert type(read(lambda: JsonDecoder("a", required=True), [b'{"b":[1]']).error) is TruncatedError


def test_path_must_be_string_or_tuple() -> None:
    with pytest.raises(TypeError, match="tuple of names"):
        JsonDecoder(("a", 1))  # type: ignore[arg-type]
