"""formats/parsing/stream_decoder.py: typed items in every JSON-based format; errors name the index and the field."""

import dataclasses
from typing import Any, TypedDict

import msgspec
import pytest

from chunkwise.errors import DecodeError
from chunkwise.formats import FORMATS
from tests.formats.reading import every_split, read
from tests.formats.samples import JSON_BASED, written
from tests.tables import check_rows, cross, named

pytestmark = pytest.mark.usefixtures("speedups_and_fallback")


class Address(msgspec.Struct):
    city: str


class User(msgspec.Struct):
    name: str
    age: int
    addresses: list[Address] = []


@dataclasses.dataclass
class Person:
    name: str
    age: int
    addresses: list[Address] = dataclasses.field(default_factory=list)


class Entry(TypedDict):
    name: str
    age: int


TYPES: dict[str, Any] = {"Struct": User, "dataclass": Person, "TypedDict": Entry}
GOOD: list[dict[str, Any]] = [{"name": "A", "age": 5}, {"name": "é", "age": 6}]


def test_items_have_the_given_type() -> None:
    def check(name: str, kind: str) -> None:
        type_ = TYPES[kind]
        expected = [type_(**item) for item in GOOD]
        for pieces in every_split(written(name, GOOD)):
            items, error = read(lambda: FORMATS[name].decoder(type=type_), pieces)
            assert (items, error) == (expected, None)
            assert {type(item) for item in items} == {dict if kind == "TypedDict" else type_}

    check_rows(cross(named(JSON_BASED), named(TYPES)), check)


def test_type_error_has_index_and_field() -> None:
    def check(name: str, kind: str, case: tuple[dict[str, Any], str]) -> None:
        bad, field = case
        type_ = TYPES[kind]
        for pieces in every_split(written(name, [*GOOD, bad, GOOD[0]])):
            got = read(lambda: FORMATS[name].decoder(type=type_), pieces)
            assert got.items == [type_(**item) for item in GOOD]
            assert type(got.error) is DecodeError
            assert (got.error.item_index, got.error.format) == (2, name)
            assert field in str(got.error)

    check_rows(
        cross(
            named(JSON_BASED),
            named(TYPES),
            named([({"name": "B", "age": "7"}, "$.age"), ({"name": "B"}, "age"), ({"name": 1, "age": 7}, "$.name")]),
        ),
        check,
    )


def test_type_error_has_path_of_nested_field() -> None:
    def check(name: str) -> None:
        stream = written(name, [{"name": "A", "age": 1, "addresses": [{"city": "X"}, {"city": None}]}])
        for type_ in (User, Person):
            assert "$.addresses[1].city" in str(read(lambda: FORMATS[name].decoder(type=type_), [stream]).error)  # noqa: B023

    check_rows(named(JSON_BASED), check)


def test_type_and_path_can_be_combined() -> None:
    def check(name: str) -> None:
        path = "item.user" if name == "json" else "user"
        for pieces in every_split(written(name, [{"user": GOOD[0]}, {"x": 1}, {"user": GOOD[1]}, {"user": {}}])):
            got = read(lambda: FORMATS[name].decoder(path, type=User), pieces)
            assert got.items == [User("A", 5), User("é", 6)]
            assert type(got.error) is DecodeError
            assert got.error.item_index == 2

    check_rows(named(JSON_BASED), check)


def test_builtin_types_are_strict() -> None:
    def check(name: str) -> None:
        for type_, good, bad in ((int, 1, "1"), (str, "a", 1), (list[int], [1], [1.5]), (int | None, None, "x")):
            got = read(lambda: FORMATS[name].decoder(type=type_), [written(name, [good, good, bad])])  # noqa: B023
            assert got.items == [good, good]
            assert got.failed

    check_rows(named(JSON_BASED), check)


def test_incomplete_record_fails_after_its_items() -> None:
    def check(case: tuple[str, str], cut: str) -> None:
        name, around = case
        data = "".join(around % text for text in ('{"a":1}', cut, '{"a":2}')).encode()
        for pieces in every_split(data):
            got = read(lambda: FORMATS[name].decoder("a"), pieces)
            assert got.items[:1] == [1]
            assert 2 not in got.items
            assert type(got.error) is DecodeError

    check_rows(
        cross(
            named([("ndjson", "%s\n"), ("sse", "data: %s\n\n")]),
            named(['{"a":7', '{"a":[7]', '{"a":7,"b":"', "[", '{"a":7,"b"']),
        ),
        check,
    )
