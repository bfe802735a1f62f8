"""Fuzz targets for the decoders. A target reads the fuzzer's bytes and raises an AssertionError for a wrong result.

The bytes contain the stream, the positions where it is split, and bits that choose what to check (see `script`).
The results must be the same for every split, and in compiled code and the fallback. If another library can read the
stream too, it must give the same items.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from chunkwise.formats import FORMATS, Decoder
from chunkwise.formats.contract import DEFAULT_LIMITS
from chunkwise.formats.end_record import StreamEndDecoder
from chunkwise.formats.events import EventsDecoder
from chunkwise.formats.sse import ServerSentEvent, SseDecoder
from chunkwise.formats.text import TextPieces
from fuzzing.judging import events_of, json_value, rows_of
from fuzzing.reading import Reading, compare, compare_checkpoints
from fuzzing.reading import read as read_pieces
from fuzzing.script import Script, script_of

FRAMED, TYPED, END_RECORD, OTHER = 1, 2, 4, 8
"""The bits of `Script.choices`. The meaning of `OTHER` depends on the target."""

_PATHS: list[str | tuple[str, ...]] = ["", (), "item", "a", "a.item", "*", "*.a", "item.a", "a.b.item", ("a.b",)]

_LONG_EXPONENT = re.compile(rb"[eE][-+]?\d{19}")
"""Matches a number's exponent that is too large for Decimal."""


class Row(msgspec.Struct):
    """The type to which the items are decoded if the fuzzer's bytes set the bit `TYPED`."""

    a: int | str | None = None
    b: list[int] = []


def fuzz_json(raw: bytes) -> None:
    """Read items at a path in a JSON text. If the path selects the whole text, compare them with those of `json`."""
    script = script_of(raw)
    path = _PATHS[script.path % len(_PATHS)]
    read = _read(script, lambda: FORMATS["json"].decoder(path, type=_type_of(script), limits=script.limits))
    if path == "" and not script.choices & TYPED and script.limits is DEFAULT_LIMITS:
        _judge_json(script, read)


def _judge_json(script: Script, read: Reading) -> None:
    value = _judge_whether_json(script, read)
    if read.error is not None:
        return
    data = script.data
    items = value if isinstance(value, list) else [value]
    assert repr(read.items) == repr(items), f"{data!r} gave {read.items!r}, expected {items!r}"


def fuzz_ndjson(raw: bytes) -> None:
    """Check that the NDJSON decoder gives the same items for each split, and in compiled code and the fallback."""
    _fuzz_records("ndjson", script_of(raw))


def fuzz_json_seq(raw: bytes) -> None:
    """Like `fuzz_ndjson`, check JSON text sequences (RFC 7464), where decoding continues after an invalid text."""
    _fuzz_records("json-seq", script_of(raw))


def fuzz_csv(raw: bytes) -> None:
    """Read rows of CSV. If all rows are valid, compare them with those of the standard library's `csv`."""
    script = script_of(raw)
    read = _fuzz_records("csv", script)
    plain = _PATHS[script.path % len(_PATHS)] == "" and not script.choices & TYPED
    if plain and read.error is None:
        expected = rows_of(script.data)
        assert read.items == expected, f"{script.data!r} gave {read.items!r}, expected {expected!r}"


def fuzz_sse(raw: bytes) -> None:
    """Read the JSON in server-sent events.

    If the fuzzer's bytes set the bit `OTHER`, read whole events instead, and compare them with those of another reader.
    """
    script = script_of(raw)
    if not script.choices & OTHER:
        _fuzz_records("sse", script)
        return
    emit_empty = bool(script.choices & TYPED)
    read = _read(script, lambda: SseDecoder(type=ServerSentEvent, limits=script.limits, emit_empty=emit_empty))
    if not emit_empty and script.limits is DEFAULT_LIMITS:
        got = [(event.data, event.event, event.id, event.retry) for event in read.items]
        expected = events_of(script.data)
        assert got == expected, f"{script.data!r} gave {got!r}, expected {expected!r}"


def fuzz_text(raw: bytes) -> None:
    """Read text as lines, and check that they are the lines of the text that Python decodes.

    If the fuzzer's bytes set the bit `OTHER`, read the text in pieces instead, and check that they make up that text.
    """
    script = script_of(raw)
    if script.choices & OTHER:
        readings = [read_pieces(TextPieces, pieces, framed=True) for pieces in (script.pieces, [script.data])]
        for read in readings:
            text = "".join(read.items)
            assert text == "".join(readings[0].items), f"{script!r} gave {text!r}, in pieces {readings[0].items!r}"
            assert (read.error is None) == _is_utf8(script.data), f"{script.data!r} raised {read.error!r}"
            assert read.error or text == script.data.decode().removeprefix("\ufeff"), f"{script.data!r} gave {text!r}"
        return
    read = _read(script, lambda: FORMATS["text"].decoder(limits=script.limits))
    if read.error is None:
        lines = script.data.decode().removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
        rest = lines.pop().removesuffix("\r")
        expected_lines = [*lines, rest] if rest or script.data.endswith(b"\r") else lines
        assert read.items == expected_lines, f"{script.data!r} gave {read.items!r}, expected {expected_lines!r}"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def fuzz_events(raw: bytes) -> None:
    """Read a JSON text as events ``(prefix, event, value)``, like those of ijson. Invalid JSON must raise an error."""
    script = script_of(raw)
    read = _read(script, lambda: EventsDecoder(limits=script.limits), checkpoints=False)
    if script.limits is DEFAULT_LIMITS and not _LONG_EXPONENT.search(script.data):
        _judge_whether_json(script, read)


def _judge_whether_json(script: Script, read: Reading) -> Any:
    """Check that decoding failed if and only if the bytes are not JSON. Return their JSON value, or None."""
    data = script.data
    try:
        value = json_value(data)
    except ValueError:
        assert read.error is not None, f"{data!r} is not JSON, but gave {read.items!r}"
        return None
    # Without the bit `FRAMED`, the decoder does not know whether the stream is complete. The number 12 may be
    # the start of 123, so the decoder may raise an error although 12 is valid JSON.
    may_go_on = type(value) in (int, float) and not script.choices & FRAMED
    assert read.error is None or may_go_on, f"{data!r} is JSON, but raised {read.error!r}"
    return value


def _fuzz_records(name: str, script: Script) -> Reading:
    row = FORMATS[name]
    path = _PATHS[script.path % len(_PATHS)]

    def make() -> Decoder:
        decoder = row.decoder(path, type=_type_of(script), limits=script.limits)
        if script.choices & END_RECORD and row.end_record is not None:
            return StreamEndDecoder(decoder, row.end_record)
        return decoder

    return _read(script, make)


def _read(script: Script, make: Callable[[], Decoder], *, checkpoints: bool = True) -> Reading:
    try:
        make()
    except TypeError:
        # The format does not support the path that the fuzzer's bytes choose, so there is nothing to compare.
        return Reading([], None, (), proven=False)
    framed = bool(script.choices & FRAMED)
    read = compare(make, script, framed=framed)
    # Checkpoints are checked with the default limits only. With small limits, a decoder that starts at a checkpoint may
    # exceed a limit that the first decoder did not exceed, so the items may differ.
    if checkpoints and script.limits is DEFAULT_LIMITS:
        compare_checkpoints(make, script)
    return read


def _type_of(script: Script) -> Any:
    return Row if script.choices & TYPED else Any


TARGETS: dict[str, Callable[[bytes], None]] = {
    "json": fuzz_json,
    "ndjson": fuzz_ndjson,
    "json-seq": fuzz_json_seq,
    "sse": fuzz_sse,
    "csv": fuzz_csv,
    "text": fuzz_text,
    "events": fuzz_events,
}
