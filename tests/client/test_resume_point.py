"""client/resume_point.py and transports/range_headers.py: the position of a response, and where to continue."""

from dataclasses import dataclass, make_dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, TypedDict
from uuid import UUID

import attrs
import msgspec
import pytest
from multidict import CIMultiDict

from chunkwise.client.resume_point import key_of, resume_point_after
from chunkwise.errors import DecodeError
from chunkwise.transports.range_headers import RangeInfo, ResumePoint, asks_for_range
from tests.each_row import each_row


def test_headers_give_the_first_item() -> None:
    told = CIMultiDict(
        {
            "Content-Range": "items 500-*/*",
            "Accept-Ranges": "bytes, Items",
            "ETag": 'W/"v1"',
            "Items-Key": '["id", "b"]',
        }
    )
    assert RangeInfo.from_headers(told) == RangeInfo(500, ranges=True, etag='"v1"', key=("id", "b"))
    assert RangeInfo.from_headers({}) == RangeInfo(0, ranges=False, etag=None, key=())
    assert RangeInfo.from_headers({"Content-Range": "bytes 5-9/10", "Accept-Ranges": "none"}) == RangeInfo()


def test_headers_give_the_last_item_and_total() -> None:
    assert RangeInfo.from_headers({"Content-Range": "items 5-9/10"}) == RangeInfo(5, last=9, total=10)
    assert RangeInfo.from_headers({"Content-Range": "items 5-9/*"}) == RangeInfo(5, last=9)


@each_row("told", ["5-4/*", "5-4/10", "5-9/9", "5-9/5", "5-9", "*/10", "-5-9/10", "5-9/10 more"])
def test_impossible_range_is_ignored(told: str) -> None:
    assert RangeInfo.from_headers({"Content-Range": f"items {told}"}) == RangeInfo()


@each_row("key", ["[", "5", "null", '{"id": 1}', '"id"', "[1]", '["id", null]', '[["id"]]', "[" * 8000, ""])
def test_malformed_key_header_is_ignored(key: str) -> None:
    assert RangeInfo.from_headers({"Accept-Ranges": "items", "Items-Key": key}) == RangeInfo(0, ranges=True)


def test_start_record_gives_the_same_position() -> None:
    assert RangeInfo.from_record({"first": 5, "etag": "v1", "key": ["id"]}) == RangeInfo(
        5, ranges=True, etag='"v1"', key=("id",)
    )
    assert RangeInfo.from_record({"first": 0, "etag": None, "key": []}) == RangeInfo(0, ranges=True)


@each_row(
    "changed",
    [
        {"first": -1},
        {"first": True},
        {"first": 1.0},
        {"first": None},
        {"etag": 1},
        {"key": None},
        {"key": "id"},
        {"key": [1]},
    ],
)
def test_malformed_start_record_is_an_error(changed: dict[str, Any]) -> None:
    with pytest.raises(DecodeError, match="malformed start record"):
        RangeInfo.from_record({"first": 5, "etag": "v1", "key": ["id"]} | changed)


def test_resume_point_needs_ranges_and_the_key() -> None:
    start = RangeInfo(0, ranges=True, etag='"v1"', key=("id",))
    assert resume_point_after(3, key_of({"id": 7, "a": 1}, ["id"]), start) == ResumePoint(3, '"v1"', {"id": 7})
    assert resume_point_after(3, {"id": 7}, start._replace(ranges=False)) is None
    for last in ({}, None, 3, "id", [1], object()):
        assert resume_point_after(3, key_of(last, ["id"]), start) is None
    assert resume_point_after(3, key_of(object(), []), start._replace(key=())) == ResumePoint(3, '"v1"', {})


def test_resume_point_becomes_range_headers() -> None:
    assert ResumePoint(3, None, {}).to_headers() == {"Range": "items=3-"}
    assert ResumePoint(3, '"v1"', {"id": 7, "b": "é"}).to_headers() == {
        "Range": "items=3-",
        "If-Range": '"v1"',
        "Items-After": '[7, "\\u00e9"]',
    }


def test_invalid_url_requests_no_range() -> None:
    assert asks_for_range({}, "http://127.0.0.1/", {"range": "items=5-"})
    assert not asks_for_range({}, "http://127.0.0.1:99999/?range=items=5-")


@each_row(
    ("type_", "sent", "told"),
    [
        (str, '"é"', "é"),
        (int, "9007199254740993", 9007199254740993),
        (float, "5", 5.0),
        (float, "1.5", 1.5),
        (float, "9007199254740993", None),  # converted to 9007199254740992
        (UUID, '"ABCDEF01-2345-6789-ABCD-EF0123456789"', None),
        (datetime, '"2024-01-01T00:00:00.123456789Z"', None),
        (Decimal, '"1.50"', None),
        (bytes, '"YQ=="', None),
        (list[int], "[1]", None),
        (Enum("Kind", {"OTHER": "other"}), '"other"', None),
        (msgspec.Raw, "1", None),
        (Literal["a"] | None, "null", ...),
    ],
)
def test_key_converted_by_a_type_is_not_used(type_: type, sent: str, told: Any) -> None:
    struct = msgspec.defstruct("Item", [("own", type_)], rename={"own": "id"})
    item = msgspec.json.decode(f'{{"id":{sent}}}', type=struct)
    assert key_of(item, ["id"]) == (None if told is None else {"id": None if told is ... else told})


@dataclass
class Lowered:
    """An item whose class changes the values received."""

    id: str

    def __post_init__(self) -> None:
        self.id = self.id.lower()


def test_key_is_read_from_any_item_type() -> None:
    class Typed(TypedDict):
        id: int

    plain = make_dataclass("Plain", [("id", int), ("name", str)])
    for type_ in (Any, Typed, plain, attrs.make_class("Own", {"id": attrs.field(type=int)})):
        assert key_of(msgspec.json.decode(b'{"id":3,"name":"x"}', type=type_), ["id"]) == {"id": 3}
    assert key_of(msgspec.json.decode(b'{"id":"A"}', type=Lowered), ["id"]) is None
