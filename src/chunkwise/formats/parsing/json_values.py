"""Python values <-> JSON texts, many in one call: only this file calls the JSON engine (msgspec)."""

import math
import re
from collections.abc import AsyncIterable, Awaitable, Iterator, MappingView, Sequence
from itertools import chain
from typing import Any

import msgspec

from chunkwise.errors import DecodeError, EncodeError, LimitError
from chunkwise.formats.speedups import holds_null, line_ends

_BYTE = re.compile(r" \(byte (\d+)\)$")
_BLANK_ARRAY = re.compile(rb"\[\s*\]")
_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")


class LivePart(Exception):  # noqa: N818 - an internal signal, not an error
    """An item, at ``index`` of its batch, holds an iterator or an awaitable: its text must be written in parts."""

    def __init__(self, index: int = 0) -> None:
        super().__init__(index)
        self.index = index


def is_live(value: object) -> bool:
    """Return whether a value that the engine cannot encode is a live part of a document."""
    # Other iterables (a model, a database row) are not: their elements are not what the user means.
    return isinstance(value, (AsyncIterable, Awaitable, Iterator, MappingView, range))


def _refuse(value: object) -> Any:
    if is_live(value):
        raise LivePart
    raise TypeError(f"JSON cannot hold {type(value).__name__}")


_encoder = msgspec.json.Encoder(enc_hook=_refuse)


def encode_array(batch: Sequence[Any], first_index: int) -> bytes:
    """Return the JSON array of a batch; ``first_index`` is the index of its first item in the stream.

    Raises:
        EncodeError: JSON cannot hold an item; its ``item_index`` counts from the start of the stream.
        LivePart: an item has live parts; its ``index`` counts from the start of the batch.
    """
    data = _checked(batch, first_index, _encode(batch) if isinstance(batch, list) else _encode(list(batch)))
    if line_ends(data) or (batch and _BLANK_ARRAY.fullmatch(data)):
        return b"[%b]" % b",".join(_on_one_line(batch, first_index))
    return data


def encode_lines(batch: Sequence[Any], first_index: int) -> bytes:
    """Return one JSON text a line, without line ends inside; see `encode_array`."""
    try:
        data = _encoder.encode_lines(batch)
    except (LivePart, TypeError, ValueError, RecursionError, OverflowError):
        data = None
    data = _checked(batch, first_index, data)
    if line_ends(data) != len(batch):
        return b"".join([text + b"\n" for text in _on_one_line(batch, first_index)])
    return data


def _on_one_line(batch: Sequence[Any], first_index: int) -> list[bytes]:
    """Return the text of each item, without the line ends that a `msgspec.Raw` in it may have."""
    # The engine itself writes no line ends. With one inside, an item would be two records with arbitrary content.
    texts = []
    for index, item in enumerate(batch, first_index):
        text = _encoder.encode(item)
        if not text or text.isspace():  # most readers skip blank lines, so the item would be lost
            raise EncodeError("an item is a blank msgspec.Raw, which is no JSON", item_index=index)
        if b"\n" in text or b"\r" in text:
            try:
                text = msgspec.json.format(text, indent=-1)
            except (msgspec.DecodeError, RecursionError) as error:
                raise EncodeError(f"an item holds msgspec.Raw that is not JSON: {error}", item_index=index) from None
        texts.append(text)
    return texts


def encode_value(value: Any) -> bytes:
    """Return the JSON text of one value; see `encode_array`."""
    return encode_array([value], 0)[1:-1]


def _encode(value: Any) -> bytes | None:
    try:
        return _encoder.encode(value)
    except (LivePart, TypeError, ValueError, RecursionError, OverflowError):
        return None


def _checked(batch: Sequence[Any], first_index: int, data: bytes | None) -> bytes:
    """Return the data if the whole batch could be encoded exactly; else raise for the first item that cannot."""
    # The engine writes NaN and Infinity, which JSON does not have (RFC 8259 §6), as null. Checking each value costs
    # more than encoding it, so check only if there is a null, and then the floats of a binary encoding.
    if data is not None and not (holds_null(data) and _may_hold_non_finite(batch)):
        return data
    for index, item in enumerate(batch):
        try:
            text = _encoder.encode(item)
            if b"null" in text and _has_non_finite(msgspec.to_builtins(item)):
                raise ValueError("JSON has no NaN or Infinity")
        except LivePart:
            raise LivePart(index) from None
        except RecursionError:
            raise EncodeError("item is nested too deep, or holds itself", item_index=first_index + index) from None
        except (TypeError, ValueError, OverflowError) as error:
            raise EncodeError(_reason(error), item_index=first_index + index) from error
    if data is None:
        raise EncodeError("the batch could not be encoded, yet each of its items could", item_index=first_index)
    return data


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "a string holds a lone surrogate, which UTF-8 cannot: send valid text"
    return str(error)


def _may_hold_non_finite(batch: Sequence[Any]) -> bool:
    try:
        return _NOT_FINITE.search(msgspec.msgpack.encode(batch)) is not None
    except (TypeError, ValueError, OverflowError, RecursionError):  # for example, an int over 64 bits: check each item
        return True


def _has_non_finite(value: Any) -> bool:
    waiting = [value]  # no recursion, because the engine can write deeper values than Python can follow
    while waiting:
        value = waiting.pop()
        if isinstance(value, float):
            if not math.isfinite(value):
                return True
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
    return False


class ValueDecoder:
    """JSON texts -> values of one type, which may be any type that msgspec can decode."""

    def __init__(self, type: Any = Any) -> None:
        self._one = msgspec.json.Decoder(type)
        self._array = msgspec.json.Decoder(list[type])
        self._boxed = msgspec.json.Decoder(tuple[type])

    def one(self, text: bytes | bytearray | memoryview, byte_offset: int) -> Any:
        """Decode one text that starts at an offset of the stream; DecodeError if it is not JSON of the type."""
        try:
            return self._one.decode(text)
        except RecursionError:
            msg = "item is nested deeper than the JSON engine can follow: lower max_depth, or select deeper values"
            raise LimitError(msg, byte_offset=byte_offset) from None
        except UnicodeDecodeError as error:
            raise DecodeError(f"invalid UTF-8: {error.reason}", byte_offset=byte_offset) from None
        except msgspec.ValidationError as error:
            raise DecodeError(str(error), byte_offset=byte_offset) from None
        except msgspec.DecodeError as error:
            raise _located(str(error), byte_offset) from None

    def array(self, text: bytes) -> list[Any] | None:
        """Decode the elements of an array; None if it has any defect."""
        return self._try(self._array, text)

    def lines(self, run: bytes) -> list[Any] | None:
        r"""Decode one text a line (``\n`` after each but the last); None if any has a defect or is blank."""
        # Each line gets its own brackets, because the engine ignores line ends: it would read "1 2" as two items, and a
        # value over two lines as one. No JSON text can have "]\n[" inside.
        inside = run.replace(b"\n", b"]\n[")
        boxes = self._try(self._boxed, b"[%b]" % inside, lines=True)
        if boxes is None or len(boxes) != (len(inside) - len(run)) // 2 + 1:  # cheaper than counting line ends
            return None
        return list(chain.from_iterable(boxes))

    @staticmethod
    def _try(decoder: Any, data: bytes, *, lines: bool = False) -> list[Any] | None:
        try:
            values: list[Any] = decoder.decode_lines(data) if lines else decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return values


def _located(message: str, byte_offset: int) -> DecodeError:
    """Return the engine's error with the offset in the stream instead of that in one text."""
    if message == "Input data was truncated":  # the engine's message also for a lone surrogate at the end of a string
        return DecodeError("malformed JSON: the value is incomplete", byte_offset=byte_offset)
    place = _BYTE.search(message)
    if place is None:  # a user's type may raise the engine's error with its own message
        return DecodeError(message, byte_offset=byte_offset)
    return DecodeError(message[: place.start()], byte_offset=byte_offset + int(place.group(1)))
