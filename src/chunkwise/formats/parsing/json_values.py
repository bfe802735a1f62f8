"""Python values <-> JSON texts, many in one call. The formats use the JSON engine, msgspec, through this module."""

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
    """The item at ``index`` of a batch contains an iterator or an awaitable, so it has to be written in parts."""

    def __init__(self, index: int = 0) -> None:
        super().__init__(index)
        self.index = index


def is_live(value: object) -> bool:
    """Return whether a value is written in parts: an iterator, async iterable, awaitable, dict view or range."""
    # Other iterables, such as a model or a database row, are excluded: iterating them does not give their content.
    return isinstance(value, (AsyncIterable, Awaitable, Iterator, MappingView, range))


def _refuse(value: object) -> Any:
    if is_live(value):
        raise LivePart
    raise TypeError(f"JSON cannot represent a value of type {type(value).__name__}")


_encoder = msgspec.json.Encoder(enc_hook=_refuse)


def encode_array(batch: Sequence[Any], first_index: int) -> bytes:
    """Return the JSON array of a batch; ``first_index`` is the index of its first item in the stream.

    Raises:
        EncodeError: JSON cannot represent an item; ``item_index`` counts from the start of the stream.
        LivePart: an item contains an iterator or an awaitable; ``index`` counts from the start of the batch.
    """
    data = _checked(batch, first_index, _encode(batch) if isinstance(batch, list) else _encode(list(batch)))
    if line_ends(data) or (batch and _BLANK_ARRAY.fullmatch(data)):
        return b"[%b]" % b",".join(_on_one_line(batch, first_index))
    return data


def encode_lines(batch: Sequence[Any], first_index: int) -> bytes:
    """Return the JSON text of each item on a line of its own; raises the same errors as `encode_array`."""
    try:
        data = _encoder.encode_lines(batch)
    except (LivePart, TypeError, ValueError, RecursionError, OverflowError):
        data = None
    data = _checked(batch, first_index, data)
    if line_ends(data) != len(batch):
        return b"".join([text + b"\n" for text in _on_one_line(batch, first_index)])
    return data


def _on_one_line(batch: Sequence[Any], first_index: int) -> list[bytes]:
    """Return the JSON text of each item, without the line ends that a `msgspec.Raw` inside it may have."""
    # Only a msgspec.Raw can contain line ends. They are removed, because a decoder would read such an item as several
    # records.
    texts = []
    for index, item in enumerate(batch, first_index):
        text = _encoder.encode(item)
        if not text or text.isspace():  # most decoders skip blank lines, so a blank item would be lost
            raise EncodeError("got a blank msgspec.Raw, expected JSON text", item_index=index)
        if b"\n" in text or b"\r" in text:
            try:
                text = msgspec.json.format(text, indent=-1)
            except (msgspec.DecodeError, RecursionError) as error:
                raise EncodeError(f"got a msgspec.Raw that is not valid JSON: {error}", item_index=index) from None
        texts.append(text)
    return texts


def encode_value(value: Any) -> bytes:
    """Return the JSON text of one value; raises the same errors as `encode_array`."""
    return encode_array([value], 0)[1:-1]


def _encode(value: Any) -> bytes | None:
    try:
        return _encoder.encode(value)
    except (LivePart, TypeError, ValueError, RecursionError, OverflowError):
        return None


def _checked(batch: Sequence[Any], first_index: int, data: bytes | None) -> bytes:
    """Return the encoded batch if JSON can represent all of its items; raise for the first item that it cannot."""
    # JSON has no NaN and no Infinity (RFC 8259 §6), and msgspec writes them as null. Checking each value would take
    # longer than encoding it. So the values are checked only if the JSON text contains null and the msgpack encoding of
    # the batch contains bytes like those of NaN or Infinity.
    if data is not None and not (holds_null(data) and _may_hold_non_finite(batch)):
        return data
    for index, item in enumerate(batch):
        try:
            text = _encoder.encode(item)
            if b"null" in text and _has_non_finite(msgspec.to_builtins(item)):
                raise ValueError("JSON cannot represent NaN or Infinity")
        except LivePart:
            raise LivePart(index) from None
        except RecursionError:
            message = "the item is nested too deeply or contains itself"
            raise EncodeError(message, item_index=first_index + index) from None
        except (TypeError, ValueError, OverflowError) as error:
            raise EncodeError(_reason(error), item_index=first_index + index) from error
    if data is None:
        message = "msgspec could not encode the batch, although it could encode each item of it"
        raise EncodeError(message, item_index=first_index)
    return data


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "a string contains a lone surrogate, which UTF-8 cannot encode"
    return str(error)


def _may_hold_non_finite(batch: Sequence[Any]) -> bool:
    try:
        return _NOT_FINITE.search(msgspec.msgpack.encode(batch)) is not None
    except (TypeError, ValueError, OverflowError, RecursionError):
        # msgpack cannot encode this batch. So there are no msgpack bytes to search, and the batch may contain NaN.
        return True


def _has_non_finite(value: Any) -> bool:
    # This is a loop, because msgspec can encode values that are nested too deeply for recursion in Python.
    waiting = [value]
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
    """JSON texts -> values of one type. The type may be any type that msgspec can decode."""

    def __init__(self, type: Any = Any) -> None:
        self._one = msgspec.json.Decoder(type)
        self._array = msgspec.json.Decoder(list[type])
        self._boxed = msgspec.json.Decoder(tuple[type])

    def one(self, text: bytes | bytearray | memoryview, byte_offset: int) -> Any:
        """Decode the JSON text at an offset in the stream; raise DecodeError if it is invalid or has another type."""
        try:
            return self._one.decode(text)
        except RecursionError:
            msg = "the item is nested too deeply for the JSON decoder: lower max_depth, or select inside it with a path"
            raise LimitError(msg, byte_offset=byte_offset) from None
        except UnicodeDecodeError as error:
            raise DecodeError(f"invalid UTF-8: {error.reason}", byte_offset=byte_offset) from None
        except msgspec.ValidationError as error:
            raise DecodeError(str(error), byte_offset=byte_offset) from None
        except msgspec.DecodeError as error:
            raise _located(str(error), byte_offset) from None

    def array(self, text: bytes) -> list[Any] | None:
        """Return the elements of a JSON array; return None if the text is invalid or an element has another type."""
        return self._try(self._array, text)

    def lines(self, run: bytes) -> list[Any] | None:
        r"""Decode one JSON text per line; return None if a line is invalid or blank. ``\n`` separates the lines."""
        # Each line is put into brackets. Without brackets, msgspec would read "1 2" on one line as two items, and a
        # value on two lines as one item. With brackets, both are errors: "]\n[" never occurs inside a JSON text.
        inside = run.replace(b"\n", b"]\n[")
        boxes = self._try(self._boxed, b"[%b]" % inside, lines=True)
        # The brackets add two bytes for each line end. So the difference in size gives the number of lines.
        # Counting the lines would take longer.
        if boxes is None or len(boxes) != (len(inside) - len(run)) // 2 + 1:
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
    """Return a msgspec error as DecodeError, with the offset in the stream instead of the offset in one JSON text."""
    # msgspec gives no offset in the message "Input data was truncated". A lone surrogate at the end of a text also
    # causes this message.
    if message == "Input data was truncated":
        return DecodeError("malformed JSON: the value is incomplete", byte_offset=byte_offset)
    place = _BYTE.search(message)
    if place is None:  # an error that a custom type has raised may have no offset in its message
        return DecodeError(message, byte_offset=byte_offset)
    return DecodeError(message[: place.start()], byte_offset=byte_offset + int(place.group(1)))
