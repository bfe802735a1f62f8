"""client/resume_point.py and transports/range_headers.py: the position of a response, and where to continue."""

from collections.abc import AsyncIterator
from contextlib import suppress
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

from chunkwise.client.response_items import ResponseItems
from chunkwise.client.resume_point import Policy, Received, Replay, RestRequest, key_of, resume_point_after
from chunkwise.errors import DecodeError, RemoteError, StalledError, StreamError, TruncatedError
from chunkwise.flow.inbound import Broken
from chunkwise.formats import FORMATS
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


# ---- the request for the rest, after a response broke


DEFAULT = Policy(max_reconnects=None, max_reconnect_seconds=300, restart=False, resume_from=None, on_reconnect=None)
KEYED = RangeInfo(0, ranges=True, etag='"v1"', key=("n",))
UNKEYED = RangeInfo(0, ranges=True, etag='"v1"')
ROWS = b'{"n":1}\n{"n":2}\n{"n":'
EVENTS = b'id: a\ndata: {"n":1}\n\nid: b\ndata: {"n":2}\n\nid: c\n'


async def broken(
    received: Received, data: bytes, name: str = "ndjson", path: str = "", key: tuple[str, ...] = ("n",)
) -> ResponseItems:
    """Return a response whose connection broke after these bytes; its items are counted as received."""

    async def chunks() -> AsyncIterator[bytes]:
        yield data
        raise Broken("the connection broke")

    connection: Any = None  # only the status of a response without content is read from it
    response = ResponseItems(connection, chunks(), lambda: FORMATS[name].decoder(path), lambda: False)
    with suppress(TruncatedError):
        async for batch in response.batches():
            received.items += len(batch)
            received.key = key_of(batch[-1], key)
    return response


async def test_rest_begins_after_the_last_record() -> None:
    received = Received("", DEFAULT)
    response = await broken(received, ROWS)
    headers = {"Range": "items=2-", "If-Range": '"v1"', "Items-After": "[2]"}
    assert received.rest_request(response, KEYED, replaying=False) == RestRequest(headers, 2, KEYED)
    assert received.counts_records
    assert received.bytes_seen(response) == len(ROWS)


async def test_break_before_items_repeats_the_request() -> None:
    point = ResumePoint(5, '"v1"', {"n": 4})
    received = Received("", DEFAULT._replace(resume_from=point))
    info = KEYED._replace(first=5)
    assert received.first_request() == RestRequest(point.to_headers(), 5, info._replace(first=0))
    response = await broken(received, b"")
    assert received.rest_request(response, info, replaying=False) == RestRequest(point.to_headers(), 5, info)
    response = await broken(received, ROWS)
    headers = {"Range": "items=7-", "If-Range": '"v1"', "Items-After": "[2]"}
    assert received.rest_request(response, info, replaying=False) == RestRequest(headers, 7, info)


async def test_all_items_are_requested_before_the_first() -> None:
    received = Received("", DEFAULT)
    assert received.first_request() == RestRequest({}, 0, RangeInfo())
    response = await broken(received, b'{"n":')
    assert received.rest_request(response, UNKEYED, replaying=False) == RestRequest({}, 0, UNKEYED)
    assert received.rest_request(response, RangeInfo(), replaying=False) is None
    received = Received("", DEFAULT._replace(restart=True))
    assert received.rest_request(response, RangeInfo(), replaying=False) == RestRequest({}, 0, RangeInfo())


async def test_path_into_records_counts_whole_records() -> None:
    received = Received("item", DEFAULT)
    response = await broken(received, b'[{"n":1},{"n":2},{"n":', "json", "item", key=())
    headers = {"Range": "items=2-", "If-Range": '"v1"'}
    assert received.rest_request(response, UNKEYED, replaying=False) == RestRequest(headers, 2, UNKEYED)
    assert received.rest_request(response, KEYED, replaying=False) is None
    assert "the path selects inside the records" in received.why_no_request(response, KEYED)
    assert not received.counts_records


@each_row("restart", [False, True])
async def test_rest_that_cannot_be_requested(restart: bool) -> None:
    received = Received("", DEFAULT._replace(restart=restart))
    response = await broken(received, ROWS)
    for info, replaying in ((RangeInfo(), False), (KEYED, True)):
        request = received.rest_request(response, info, replaying=replaying)
        assert request == (RestRequest({}, 2, info) if restart else None)
    assert "sends no ranges" in received.why_no_request(response, RangeInfo())
    received.key = None
    assert received.rest_request(response, KEYED, replaying=False) == (RestRequest({}, 2, KEYED) if restart else None)
    assert "the last item has no n as the server sent it" in received.why_no_request(response, KEYED)


async def test_event_id_requests_the_rest() -> None:
    received = Received("", DEFAULT._replace(max_reconnects=3))
    response = await broken(received, EVENTS, "sse")
    expected = RestRequest({"Last-Event-ID": "b"}, 2, RangeInfo(), by_event=True, first_event_id="a")
    assert received.rest_request(response, RangeInfo(), replaying=False) == expected
    received.begin_response(response, 2)
    response = await broken(received, b": no event\n\n", "sse")
    assert received.rest_request(response, RangeInfo(), replaying=False) == expected, "the id of the response before"
    received.begin_response(response, 2)
    response = await broken(received, b'id\ndata: {"n":3}\n\n', "sse")
    assert received.rest_request(response, RangeInfo(), replaying=False) is None, "the last event has no id"


async def test_errors_have_places_in_the_whole_stream() -> None:
    received = Received("", DEFAULT)
    received.begin_response(await broken(received, ROWS), 2)
    response = await broken(received, ROWS)
    size = 2 * len(ROWS)
    errors: list[tuple[StreamError, dict[str, int | None]]] = [
        (TruncatedError("", items_seen=2, bytes_seen=5), {"items_seen": 4, "bytes_seen": size}),
        (StalledError(""), {"item_index": 4, "byte_offset": size}),
        (DecodeError("", item_index=1), {"item_index": 3}),
        (DecodeError(""), {"item_index": None}),
        (RemoteError("", status=503), {}),
    ]
    for error, expected in errors:
        received.locate(error, response)
        assert {name: getattr(error, name) for name in expected} == expected
    received.start_over()
    error = DecodeError("", item_index=1)
    received.locate(error, response)
    assert error.item_index == 1


# ---- items that are sent again


def test_items_sent_again_are_skipped() -> None:
    replay = Replay()
    assert replay.skip([1, 2, 3]) == ([1, 2, 3], True)
    replay.start(3)
    assert replay.skip([1]) == ([], True)
    assert replay.remaining == 2
    assert replay.skip([2, 3, 4]) == ([4], True)
    replay.start(4)
    assert replay.skip([1, 2, 3, 5]) == ([], False)
