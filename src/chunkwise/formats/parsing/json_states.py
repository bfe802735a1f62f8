"""The states of a JSON scanner -> the tokens that are allowed next, and the errors for bytes that are not allowed.

The Python scanner and the compiled scanner use these errors. The Python scanner also imports the states. The compiled
scanner has its own copy of them; a test checks that the copy is the same.
"""

from typing import Final

import msgspec

from chunkwise.errors import DecodeError, LimitError

Window = bytes | bytearray
"""The bytes of a stream that were received and are still needed."""

# The states of a scanner. The name of a state says which token is allowed next, or in which token the scanner is.
VALUE: Final = 0
VALUE_OR_END: Final = 1
KEY_OR_END: Final = 2
KEY: Final = 3
COLON: Final = 4
COMMA_OR_END: Final = 5
END: Final = 6
IN_STRING: Final = 7
IN_KEY: Final = 8
IN_NUMBER: Final = 9

_EXPECTED = {
    VALUE: "a value",
    VALUE_OR_END: "a value or ']'",
    KEY_OR_END: "a name in double quotes or '}'",
    KEY: "a name in double quotes",
    COLON: "':' after the name",
    END: "nothing after the document",
}
_ESCAPES = r"\" \\ \/ \b \f \n \r \t or \u with four hexadecimal digits (surrogates only in pairs)"
OBJECT: Final = ord("{")
ARRAY: Final = ord("[")
CLOSERS: Final = {OBJECT: ord("}"), ARRAY: ord("]")}
LITERALS: Final = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}


def unexpected(state: int, opener: int, byte: int, byte_offset: int) -> DecodeError:
    """Return the error for a byte that is not allowed in the given state of a scanner.

    ``opener`` is the innermost open bracket, or 0 if none is open.
    """
    expected = f"',' or '{chr(CLOSERS[opener])}'" if state == COMMA_OR_END else _EXPECTED[state]
    return DecodeError(f"got {_shown(bytes([byte]))}, expected {expected}", byte_offset=byte_offset)


def not_a_literal(text: bytes, word: bytes, byte_offset: int) -> DecodeError:
    """Return the error for a text that has the first letter of ``true``, ``false`` or ``null`` but is another word."""
    return DecodeError(f"got {_shown(text)}, expected {word.decode()!r}", byte_offset=byte_offset)


def not_a_number(token: bytes, byte_offset: int) -> DecodeError:
    """Return the error for a token that begins like a number but is not one."""
    return DecodeError(f"got {_shown(token[:40])}, expected a number", byte_offset=byte_offset)


def not_in_a_string(text: bytes, byte_offset: int) -> DecodeError:
    """Return the error for a text that begins with an invalid escape or with an unescaped control character."""
    if text[:1] == b"\\":
        message = f"got escape {_shown(text[:6])} in a string, expected {_ESCAPES}"
    else:
        message = f"got control character 0x{text[0]:02x} in a string, expected an escape such as \\u{text[0]:04x}"
    return DecodeError(message, byte_offset=byte_offset)


def too_long(what: str, size: int, most: int, byte_offset: int) -> LimitError:
    """Return the error for a string, name, number or path (``what``) that exceeds its limit in bytes."""
    return LimitError(f"{what} has at least {size} bytes, expected no more than {most}", byte_offset=byte_offset)


def too_deep(depth: int, most: int, byte_offset: int) -> LimitError:
    """Return the error for an array or object that is nested too deeply."""
    message = f"nesting depth is {depth}, expected no more than {most} (max_depth)"
    return LimitError(message, byte_offset=byte_offset)


def why_incomplete(state: int, opener: int, depth: int) -> str:
    """Return why the document is incomplete, or ``""`` if it is complete.

    ``opener`` is the innermost open bracket, or 0 if none is open.
    """
    if state == END:
        return ""
    if state == VALUE and not depth:
        return "the stream ended before a JSON value"
    inside = {IN_STRING: "a string", IN_KEY: "a name", IN_NUMBER: "a number"}.get(state)
    container = {OBJECT: "an object", ARRAY: "an array"}.get(opener, "a value")
    return f"the JSON text ended inside {inside or container} at depth {depth}"


UNFRAMED_NUMBER: Final = "the JSON text ended in a number, which may be incomplete"


def name_of(raw: bytes) -> bytes:
    """Return the name of an object member, in quotes, with its escapes decoded to UTF-8."""
    return b'"%b"' % msgspec.json.decode(raw, type=str).encode()


def _shown(text: bytes) -> str:
    return repr(text.decode("utf-8", "backslashreplace"))
