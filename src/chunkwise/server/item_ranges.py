"""A request for the rest of a stream -> where its source starts, and the headers that tell so (RFC 9110 §14).

Must not know any one format or source. ::

    > Range: items=500-                        < 206, Content-Range: items 500-*/*
    > If-Range: "v1"                           the rest, if the version is still that one; else all, with 200
    > Items-After: [4711]                      where a key tells the place (Items-Key: ["id"]), and no index
    > Last-Event-ID: 499                       of server-sent events; a client that has all gets 204

Ranges of items are of what a source gives, whatever format and content coding it goes out in. So the version is
compared without the mark of a weak ETag, which is for bytes.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any, NamedTuple

from aiohttp import hdrs, web

from chunkwise.errors import EncodeError, StreamError
from chunkwise.formats import Format
from chunkwise.formats.parsing.json_values import encode_value
from chunkwise.sources.resumable import Resumable, WrongKey, first_items
from chunkwise.transports.problems import problem_response
from chunkwise.transports.range_headers import ITEMS_AFTER, LAST_EVENT_ID, RANGE_PARAMETER, UNIT, RangeInfo

logger: logging.Logger = logging.getLogger("chunkwise")

_RANGE = re.compile(rf"{UNIT}=([0-9]{{1,15}})-([0-9]{{1,15}})?")
_EVENT_ID = re.compile(r"([0-9]{1,15})(?: (\[.*\]))?")
_MAX_KEY_CHARACTERS = 8192


class Rest(NamedTuple):
    """What is to be sent.

    Attributes:
        source: of the items that are left.
        info: which they are, for the client.
        after: the key of the item before the first, as the client has sent it, if it did.
        partial: whether it is a range that the client asked for, which is sent with 206.
        ends_events: whether the client has asked for the events that it lacks, and is told by 204 if there are none.
        item_count: how many items it has to have, where that is known.
    """

    source: Any
    info: RangeInfo
    after: Any = None
    partial: bool = False
    ends_events: bool = False
    item_count: int | None = None


class _Place(NamedTuple):
    first: int
    last: int | None = None  # the index of the last item that is wanted
    after: Any = None  # the key of the item before


def rest_of(
    request: web.BaseRequest, source: Resumable, format: Format, *, messages: bool = False
) -> Rest | web.Response:
    """Return the part of a source that a request asks for, or the answer that refuses it.

    Args:
        request: the request.
        source: the source.
        format: what it is sent in.
        messages: whether each item is a message, which tells the strings of plain text apart.
    """
    etag = None if source.etag is None else f'"{source.etag}"'
    if format.plain_messages and not (source.lines or messages):
        return Rest(source.start(), RangeInfo(etag=etag), item_count=source.total)
    info = RangeInfo(0, ranges=True, etag=etag, key=tuple(source.key))
    events = format.event_ids and LAST_EVENT_ID in request.headers
    try:
        place = _event_place(request) if events else _range_place(request, source.etag)
        if place is not None and source.key and (place.first == 0) != (place.after is None):
            place = None  # an index alone does not tell the place
        if place is not None and place.after is not None and len(place.after) != len(source.key or place.after):
            msg = f"got a key of {len(place.after)} values, expected {len(source.key)}: {', '.join(source.key)}"
            raise ValueError(msg)
    except ValueError as error:
        return problem_response(400, f"{ITEMS_AFTER}: {error}")
    if place is None:
        return Rest(source.start(), info, item_count=source.total)
    if source.total is not None and (place.first > source.total or (events and place.first == source.total)):
        return web.Response(status=204) if events else _too_far(place, source.total)
    try:
        rest = source.start(place.first, place.after)
    except (ValueError, TypeError) as error:
        if (refusal := refused_key(error, place.after)) is None:
            raise
        return refusal
    count = _count(place, source.total)
    if events:
        return Rest(rest, info._replace(first=place.first), place.after, ends_events=True, item_count=count)
    last = place.last
    if last is not None:
        rest = first_items(rest, last - place.first + 1)
    if source.total is not None:  # after all of them there is no last
        last = min(source.total - 1, source.total if last is None else last) if place.first < source.total else None
    info = info._replace(first=place.first, last=last, total=source.total)
    return Rest(rest, info, place.after, partial=True, item_count=count)


def _too_far(place: _Place, total: int) -> web.Response:
    refusal = problem_response(416, f"there are {total} items, got {UNIT}={place.first}-")
    refusal.headers[hdrs.CONTENT_RANGE] = f"{UNIT} */{total}"
    return refusal


def refused_key(error: BaseException, after: Any) -> web.Response | None:
    """Return the answer for a failure that says that a client's key is none; None for any other failure.

    Args:
        error: what the factory has raised, or what it gave, before its first item.
        after: the key that it was called with, if a client has sent one.
    """
    if after is None or isinstance(error, StreamError) or not isinstance(error, (ValueError, TypeError)):
        return None
    logger.info("the source has refused the key %r", after, exc_info=error)
    told = error if isinstance(error, WrongKey) else f"got {json.dumps(after)[:80]}, which is no key of this source"
    return problem_response(400, f"{ITEMS_AFTER}: {told}")


def _count(place: _Place, total: int | None) -> int | None:
    if total is None:
        return None
    return max(0, min(total, total if place.last is None else place.last + 1) - place.first)


def _range_place(request: web.BaseRequest, etag: str | None) -> _Place | None:
    """Return what the Range header asks for; None for all (RFC 9110 §14.2: a range that is none is passed over)."""
    asked = request.headers.get(hdrs.RANGE) or request.query.get(RANGE_PARAMETER, "")
    found = _RANGE.fullmatch(asked.strip())
    if found is None or not _is_current(request, etag):
        return None
    first, last = int(found[1]), int(found[2]) if found[2] else None
    if last is not None and last < first:
        return None
    after = request.headers.get(ITEMS_AFTER)
    return _Place(first, last, None if after is None else _key(after))


def _event_place(request: web.BaseRequest) -> _Place | None:
    found = _EVENT_ID.fullmatch(request.headers[LAST_EVENT_ID].strip())
    if found is None:
        return None
    return _Place(int(found[1]) + 1, None, _key(found[2]) if found[2] else None)


def _is_current(request: web.BaseRequest, etag: str | None) -> bool:
    """Whether the condition of If-Range holds (RFC 9110 §13.1.5)."""
    wanted = request.headers.get(hdrs.IF_RANGE)
    return wanted is None or (etag is not None and wanted.strip().removeprefix("W/") == f'"{etag}"')


def _key(text: str) -> Any:
    if len(text) > _MAX_KEY_CHARACTERS:
        msg = f"got a key of {len(text)} characters, expected no more than {_MAX_KEY_CHARACTERS}"
        raise ValueError(msg)
    try:
        key = json.loads(text)
        encode_value(key)  # NaN, what is beyond a float and lone surrogates are no JSON, though Python reads them
    except (ValueError, RecursionError, EncodeError):
        key = None
    if not isinstance(key, list) or any(isinstance(value, (list, dict)) for value in key):
        msg = f"got {text[:40]!r}, expected a JSON array of plain values"
        raise ValueError(msg)
    return key
