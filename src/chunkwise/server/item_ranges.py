"""A request and a resumable source -> the items that the request asks for, or the response that refuses it.

See `chunkwise.transports.range_headers` for the headers. A range counts the items of the source, whatever format and
content coding they are sent in. So If-Range is compared without the weak mark of an ETag, which is about bytes.
"""

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


class Selection(NamedTuple):
    """The items of a source that a request asks for."""

    source: Any  # a source of these items only
    info: RangeInfo = RangeInfo()  # which items they are
    after: Any = None  # the key that the client sent, of the item before the first; None if it sent none
    partial: bool = False  # whether the request asked for a range, which is sent with 206
    ends_events: bool = False  # whether an event stream continues, which ends with 204 if there are no more events
    item_count: int | None = None  # how many items the selection has, if that is known
    key: tuple[str, ...] = ()  # the names of the key's members, which event ids have to hold


class _Range(NamedTuple):
    """The range of a request: from which item, to which (None for all), and after which key."""

    first: int
    last: int | None = None
    after: Any = None


def select_items(
    request: web.BaseRequest, source: Any, format: Format, *, messages: bool = False
) -> Selection | web.Response:
    """Return the items that a request asks for, or the response that refuses it.

    Only GET and HEAD of a `Resumable` have ranges. ``messages`` says whether each item is a message of its own, which
    keeps the strings of plain text apart.
    """
    if not (isinstance(source, Resumable) and request.method in (hdrs.METH_GET, hdrs.METH_HEAD)):
        return Selection(source)
    info = RangeInfo(etag=None if source.etag is None else f'"{source.etag}"')
    if format.plain_messages and not (source.lines or messages):
        return Selection(source.start(), info, item_count=source.total, key=source.key)
    info = info._replace(ranges=True, key=source.key)
    events = format.event_ids and LAST_EVENT_ID in request.headers
    try:
        wanted = _event_range(request) if events else _item_range(request, source.etag)
        wanted = _with_key(wanted, source.key)
    except ValueError as error:
        return problem_response(400, f"{ITEMS_AFTER}: {error}")
    if wanted is None:
        return Selection(source.start(), info, item_count=source.total, key=source.key)
    if source.total is not None and (wanted.first > source.total or (events and wanted.first == source.total)):
        return web.Response(status=204) if events else _out_of_range(wanted, source.total)
    try:
        selected = source.start(wanted.first, wanted.after)
    except (ValueError, TypeError) as error:
        if (refusal := refuse_key(error, wanted.after)) is None:
            raise
        return refusal
    whole = Selection(selected, info._replace(first=wanted.first), wanted.after, key=source.key)
    stop = source.total
    if events:
        return whole._replace(ends_events=True, item_count=None if stop is None else stop - wanted.first)
    if wanted.last is not None:
        selected = first_items(selected, wanted.last + 1 - wanted.first)
        stop = None if stop is None else min(stop, wanted.last + 1)
    last = wanted.last if stop is None else stop - 1
    if source.total is not None and wanted.first >= source.total:
        last = None  # there is no last item: the selection is empty
    return whole._replace(
        source=selected,
        info=whole.info._replace(last=last, total=source.total),
        partial=True,
        item_count=None if stop is None else max(0, stop - wanted.first),
    )


def refuse_key(error: BaseException, after: Any) -> web.Response | None:
    """Return the response to a key that the source refuses; None if the error is about anything else.

    The error is an exception of the factory, or of its source before the first item, and ``after`` the client's key.
    """
    if after is None or isinstance(error, StreamError) or not isinstance(error, (ValueError, TypeError)):
        return None
    logger.info("the source refused the key %r", after, exc_info=error)
    reason = (
        error if isinstance(error, WrongKey) else f"got {json.dumps(after)[:80]}, which is not a key of this source"
    )
    return problem_response(400, f"{ITEMS_AFTER}: {reason}")


def _out_of_range(wanted: _Range, total: int) -> web.Response:
    refusal = problem_response(416, f"there are {total} items, got {UNIT}={wanted.first}-")
    refusal.headers[hdrs.CONTENT_RANGE] = f"{UNIT} */{total}"
    return refusal


def _item_range(request: web.BaseRequest, etag: str | None) -> _Range | None:
    """Return the range of the Range header; None for all items (RFC 9110 §14.2: a malformed range is ignored)."""
    value = request.headers.get(hdrs.RANGE) or request.query.get(RANGE_PARAMETER, "")
    found = _RANGE.fullmatch(value.strip())
    if found is None or not _is_current(request, etag):
        return None
    first, last = int(found[1]), int(found[2]) if found[2] else None
    if last is not None and last < first:
        return None
    after = request.headers.get(ITEMS_AFTER)
    return _Range(first, last, None if after is None else _key(after))


def _event_range(request: web.BaseRequest) -> _Range | None:
    """Return the range after the event of the Last-Event-ID header; None for all events."""
    found = _EVENT_ID.fullmatch(request.headers[LAST_EVENT_ID].strip())
    if found is None:
        return None
    return _Range(int(found[1]) + 1, None, _key(found[2]) if found[2] else None)


def _with_key(wanted: _Range | None, names: tuple[str, ...]) -> _Range | None:
    """Return the range if its key fits the source; None for all items, where an index alone is no position."""
    if wanted is None or (names and (wanted.first == 0) != (wanted.after is None)):
        return None
    if names and wanted.after is not None and len(wanted.after) != len(names):
        raise ValueError(f"got a key of {len(wanted.after)} values, expected {len(names)}: {', '.join(names)}")
    return wanted


def _is_current(request: web.BaseRequest, etag: str | None) -> bool:
    """Whether the condition of If-Range holds (RFC 9110 §13.1.5)."""
    wanted = request.headers.get(hdrs.IF_RANGE)
    return wanted is None or (etag is not None and wanted.strip().removeprefix("W/") == f'"{etag}"')


def _key(text: str) -> Any:
    if len(text) > _MAX_KEY_CHARACTERS:
        raise ValueError(f"got a key of {len(text)} characters, expected no more than {_MAX_KEY_CHARACTERS}")
    try:
        key = json.loads(text)
        encode_value(key)  # Python reads NaN, huge numbers and lone surrogates, which are not JSON
    except (ValueError, RecursionError, EncodeError):
        key = None
    if not isinstance(key, list) or any(isinstance(value, (list, dict)) for value in key):
        raise ValueError(f"got {text[:40]!r}, expected a JSON array of plain values")
    return key
