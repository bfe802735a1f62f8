"""The items received so far -> the request for the rest. Items that are sent again -> whether they have changed."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Any, NamedTuple

import msgspec

from chunkwise.client.response_items import ResponseItems
from chunkwise.errors import DecodeError, StalledError, StreamError, TruncatedError
from chunkwise.formats.paths import PathLike, parse_path
from chunkwise.formats.sse import value_of
from chunkwise.transports.range_headers import LAST_EVENT_ID, RangeInfo, ResumePoint

_ABSENT = object()
_EXACT_FLOATS = 2.0**53

_encoder = msgspec.json.Encoder()


class Policy(NamedTuple):
    """How to continue a stream after a disconnect; see `open_stream`."""

    max_reconnects: int | None
    max_reconnect_seconds: float
    restart: bool
    resume_from: ResumePoint | None
    on_reconnect: Callable[[StreamError], None] | None


class RestRequest(NamedTuple):
    """A request for the rest of a stream, and how its response has to begin.

    Attributes:
        headers: the headers that request the rest; empty to request all items.
        record: the index of the first record of the rest.
        info: the position that the previous response sent. The new response has to match it, for example in its ETag.
        by_event: whether the rest is requested by the id of the last event, not by an index or key.
        first_event_id: the id of the stream's first event. A response that begins with it sends all events again.
    """

    headers: Mapping[str, str]
    record: int
    info: RangeInfo
    by_event: bool = False
    first_event_id: str = ""


class Received:
    """Counts the items, records and bytes of a stream that have arrived.

    An item that is sent again is not counted again.

    Attributes:
        items: the number of items.
        key: the key of the last item (see `key_of`); None if the item has no usable key.
        counts_records: whether each item is one record of the server; False if a path selects items inside records.
    """

    def __init__(self, path: PathLike, policy: Policy) -> None:
        self.items: int = policy.resume_from.items if policy.resume_from is not None else 0
        self.key: dict[str, Any] | None = {}
        self._parts = parse_path(path)
        self.counts_records: bool = self._parts is None
        self._policy = policy
        # The current response begins after these numbers of items and records of the stream.
        self._items_before = self._records_before = self.items
        self._bytes_before = 0
        self._first_event_id = self._event_id = ""

    def bytes_seen(self, response: ResponseItems) -> int:
        """Return how many bytes have arrived in ``response``, the current one, and in all responses before it."""
        return self._bytes_before + response.bytes_seen

    def records(self, response: ResponseItems) -> int | None:
        """Return how many complete records have arrived; None if a path is used and the decoder cannot count them."""
        if self._parts is None:
            return self.items
        whole = response.whole_records
        return None if whole is None else self._records_before + whole

    def begin_response(self, last: ResponseItems, record: int) -> None:
        """Prepare to count the items of a new response. ``last`` is the response before it.

        The new response is expected to begin with the record that has the index ``record``.
        """
        self._bytes_before = self.bytes_seen(last)
        self._items_before, self._records_before = self.items, record

    def start_over(self) -> None:
        """Prepare to count the items of a response that starts again with the first item."""
        self._items_before = self._records_before = 0

    def first_request(self) -> RestRequest:
        """Return the first request of the stream: for all items, or for those after ``resume_from``."""
        point = self._policy.resume_from
        if point is None:
            return RestRequest({}, 0, RangeInfo())
        info = RangeInfo(ranges=True, etag=point.etag, key=tuple(point.key))
        return RestRequest(point.to_headers(), point.items, info)

    def rest_request(self, response: ResponseItems, info: RangeInfo, *, replaying: bool) -> RestRequest | None:
        """Return the request for the rest of the stream; None if the rest cannot be requested.

        Args:
            response: the response that was disconnected.
            info: the position that the server sent with this response, or else with an earlier response.
            replaying: whether this response was still repeating items that had arrived before.
        """
        restart, by_event = self._policy.restart, self._policy.max_reconnects is not None
        if not self.items and (info.ranges or restart):
            return RestRequest({}, 0, info)
        record = self.records(response)
        if info.ranges and record is not None and not replaying and not (info.key and self._parts):
            point = self._policy.resume_from
            if point is None or point.items != record:
                point = resume_point_after(record, self.key, info)
            if point is not None:
                return RestRequest(point.to_headers(), record, info)
        elif not info.ranges and by_event and (last_id := self._last_event_id(response)):
            first_id = self._first_event_id = self._first_event_id or response.first_event_id
            return RestRequest({LAST_EVENT_ID: last_id}, record or 0, info, by_event=True, first_event_id=first_id)
        return RestRequest({}, self.items, info) if restart else None

    def why_no_request(self, response: ResponseItems, info: RangeInfo) -> str:
        """Return why `rest_request` returned None."""
        if not info.ranges:
            return "the server sends no ranges of items (restart=True requests all items again)"
        if self.records(response) is None or (info.key and self._parts):
            return "the path selects inside the records, so the number of whole records is not known"
        names = ", ".join(info.key)
        return f"the last item has no {names} as the server sent it (type= must keep it a string or a number)"

    def locate(self, error: StreamError, response: ResponseItems) -> None:
        """Change the item and byte numbers in an error of ``response`` to those in the whole stream."""
        if isinstance(error, TruncatedError):
            error.items_seen, error.bytes_seen = self.items, self.bytes_seen(response)
        elif isinstance(error, StalledError):
            error.item_index, error.byte_offset = self.items, self.bytes_seen(response)
        elif isinstance(error, DecodeError) and error.item_index is not None:
            error.item_index += self._items_before

    def _last_event_id(self, response: ResponseItems) -> str:
        """Return the id of the last event that arrived, in ``response`` or before it; ``""`` if it has no id."""
        if response.whole_records:
            self._event_id = ""
        self._event_id = response.last_event_id or self._event_id
        return self._event_id


class Replay:
    """Skips the items that a server sends again, and checks with a digest that they have not changed.

    ``remaining`` is the number of items that are still to be skipped.
    """

    def __init__(self) -> None:
        self.remaining: int = 0
        self._received = hashlib.blake2b()
        self._again = hashlib.blake2b()

    def start(self, items: int) -> None:
        """Prepare to skip ``items`` items, because the current response repeats all items received so far."""
        self.remaining = items
        self._again = hashlib.blake2b()

    def skip(self, items: list[Any]) -> tuple[list[Any], bool]:
        """Skip the items that are sent again; return the new items, and whether the skipped ones have not changed."""
        again, new = items[: self.remaining], items[self.remaining :]
        same = True
        if again:
            self.remaining -= len(again)
            self._again.update(_encoder.encode_lines(again))
            same = self.remaining > 0 or self._again.digest() == self._received.digest()
        self._received.update(_encoder.encode_lines(new))
        return new, same


def resume_point_after(items: int, key: Mapping[str, Any] | None, info: RangeInfo) -> ResumePoint | None:
    """Return the position after ``items`` items, at which the stream can be resumed.

    ``key`` is the key of the last of these items (see `key_of`). Return None if the server sends no ranges of items, or
    if the key is None.
    """
    return ResumePoint(items, info.etag, dict(key)) if info.ranges and key is not None else None


def key_of(item: Any, names: Sequence[str]) -> dict[str, Any] | None:
    """Return the key of an item: the members ``names``, by which the server finds it, as the server sent them.

    Return None if a member is missing, or if the item's type has converted a member. Call this before the user receives
    the item, because the user may change it.
    """
    # If the item is a server-sent event, its key is in the data of the event, which `value_of` returns.
    value = value_of(item) if names else {}
    if isinstance(value, msgspec.Struct):
        members = {field.encode_name: field.name for field in msgspec.structs.fields(value)}
        key = {name: getattr(value, members.get(name, ""), _ABSENT) for name in names}
    elif isinstance(value, dict):
        key = {name: value.get(name, _ABSENT) for name in names}
    else:
        key = {name: getattr(value, name, _ABSENT) for name in names}
    may_change = hasattr(value, "__post_init__")
    return key if not may_change and all(map(_is_as_sent, key.values())) else None


def _is_as_sent(value: Any) -> bool:
    """Return whether a member has the value that the server sent, so that the server can find the item by it."""
    # The item's type may have converted an integer to a float. Below 2**53, this does not change the number.
    if type(value) is float:
        return abs(value) < _EXACT_FLOATS
    return type(value) in (str, int, bool, NoneType)
