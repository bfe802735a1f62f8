"""A request and a resumable source -> the items that the request asks for, or a response that refuses it.

See `chunkwise.transports.range_headers` for the headers. A range counts the items of the source, so it means the same
in every format and content coding. The ETag of a response is weak (``W/``) if format or coding can change its bytes. So
If-Range may contain a weak ETag.
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

    source: Any  # a source that yields only these items
    info: RangeInfo = RangeInfo()  # the position of these items in the source, for the response headers
    after: Any = None  # the key of the item before the first one, as the client sent it; None if it sent no key
    partial: bool = False  # whether the request asked for a range, so that the status is 206
    ends_events: bool = False  # whether the request continues an event stream; if no events are left, the status is 204
    item_count: int | None = None  # how many items the selection has; None if that is not known
    key: tuple[str, ...] = ()  # the names of the members that form an item's key; an event id contains the key


class _Range(NamedTuple):
    """The range that a request asks for.

    ``first`` and ``last`` are the indexes of its first and last item; ``last`` is None if the range has no end.
    ``after`` is the key of the item before the first one; None if the client sent no key.
    """

    first: int
    last: int | None = None
    after: Any = None


def select_items(
    request: web.BaseRequest, source: Any, format: Format, *, messages: bool = False
) -> Selection | web.Response:
    """Return the items that a request asks for, or a response that refuses the request.

    Ranges are supported for GET and HEAD of a `Resumable`. ``messages`` says whether each item is sent as a separate
    message. In plain text, a client can count items only if each item is a message or a line; else ranges are ignored.
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
        return problem_response(400, f"{LAST_EVENT_ID if events else ITEMS_AFTER}: {error}")
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
        last = None  # no item is selected, so there is no last one
    return whole._replace(
        source=selected,
        info=whole.info._replace(last=last, total=source.total),
        partial=True,
        item_count=None if stop is None else max(0, stop - wanted.first),
    )


def refuse_key(error: BaseException, after: Any) -> web.Response | None:
    """Return an error response if ``error`` means that the source refuses the client's key; None for other errors.

    ``error`` was raised by the factory of the `Resumable`, or by its source before the first item. ``after`` is the
    key of the last item that the client has, as the client sent it.
    """
    if after is None or isinstance(error, StreamError) or not isinstance(error, (ValueError, TypeError)):
        return None
    logger.info("the source does not accept the key %r that the client sent", after, exc_info=error)
    reason = error if isinstance(error, WrongKey) else f"got {json.dumps(after)[:80]}, expected a key of this source"
    return problem_response(400, f"{ITEMS_AFTER}: {reason}")


def _out_of_range(wanted: _Range, total: int) -> web.Response:
    refusal = problem_response(416, f"Range: got {UNIT}={wanted.first}-, but there are {total} items")
    refusal.headers[hdrs.CONTENT_RANGE] = f"{UNIT} */{total}"
    return refusal


def _item_range(request: web.BaseRequest, etag: str | None) -> _Range | None:
    """Return the range of the Range header; None for all items, also if the header is malformed (RFC 9110 §14.2)."""
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
    """Return the range, or None (all items) if the source needs a key, and the range has only an index.

    An index alone may be wrong, because items may have been inserted or removed before it.
    """
    if wanted is None or (names and (wanted.first == 0) != (wanted.after is None)):
        return None
    if names and wanted.after is not None and len(wanted.after) != len(names):
        raise ValueError(f"got a key of {len(wanted.after)} values, expected {len(names)} ({', '.join(names)})")
    return wanted


def _is_current(request: web.BaseRequest, etag: str | None) -> bool:
    """Whether the version in If-Range is the current one, or the header is absent (RFC 9110 §13.1.5)."""
    wanted = request.headers.get(hdrs.IF_RANGE)
    return wanted is None or (etag is not None and wanted.strip().removeprefix("W/") == f'"{etag}"')


def _key(text: str) -> Any:
    if len(text) > _MAX_KEY_CHARACTERS:
        raise ValueError(f"got a key of {len(text)} characters, expected no more than {_MAX_KEY_CHARACTERS}")
    try:
        key = json.loads(text)
        # json.loads accepts NaN, huge numbers and lone surrogates, which are not JSON. `encode_value` refuses them.
        encode_value(key)
    except (ValueError, RecursionError, EncodeError):
        key = None
    if not isinstance(key, list) or any(isinstance(value, (list, dict)) for value in key):
        raise ValueError(f"got the key {text[:40]!r}, expected a JSON array of strings, numbers, booleans or nulls")
    return key
