"""The states of a walk through JSON -> the tokens that may follow, and the errors for bytes that may not.

Both scanners use these: the Python one imports the states, and a test compares them with those of the compiled one.
"""

from typing import Final

import msgspec

from chunkwise.errors import DecodeError, LimitError

Window = bytes | bytearray

# States, named after the tokens that may follow.
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
_ESCAPES = r"\" \\ \/ \b \f \n \r \t, \u and four hexadecimal digits, or a pair of surrogates"
OBJECT: Final = ord("{")
ARRAY: Final = ord("[")
CLOSERS: Final = {OBJECT: ord("}"), ARRAY: ord("]")}
LITERALS: Final = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}


def unexpected(state: int, opener: int, byte: int, byte_offset: int) -> DecodeError:
    """Return the error for a byte that cannot follow; ``opener`` is that of the innermost container."""
    expected = f"',' or '{chr(CLOSERS[opener])}'" if state == COMMA_OR_END else _EXPECTED[state]
    return DecodeError(f"got {_shown(bytes([byte]))}, expected {expected}", byte_offset=byte_offset)


def not_a_literal(text: bytes, word: bytes, byte_offset: int) -> DecodeError:
    """Return the error for a word that begins as ``true``, ``false`` or ``null`` does, and is another."""
    return DecodeError(f"got {_shown(text)}, expected {word.decode()!r}", byte_offset=byte_offset)


def not_a_number(token: bytes, byte_offset: int) -> DecodeError:
    """Return the error for a token that begins as a number does, and is not one."""
    return DecodeError(f"got {_shown(token[:40])}, expected a number", byte_offset=byte_offset)


def not_in_a_string(text: bytes, byte_offset: int) -> DecodeError:
    """Return the error for a control character or an escape that a string cannot contain, at the start of the text."""
    if text[:1] == b"\\":
        message = f"got escape {_shown(text[:6])} in a string, expected {_ESCAPES}"
    else:
        message = f"got control character 0x{text[0]:02x} in a string, expected it escaped"
    return DecodeError(message, byte_offset=byte_offset)


def too_long(what: str, size: int, most: int, byte_offset: int) -> LimitError:
    """Return the error for a string, name, number or path over its limit."""
    return LimitError(f"{what} has {size} bytes or more, expected no more than {most}", byte_offset=byte_offset)


def too_deep(depth: int, most: int, byte_offset: int) -> LimitError:
    """Return the error for an array or object inside too many others."""
    return LimitError(f"nested {depth} deep, expected no more than {most} (max_depth)", byte_offset=byte_offset)


def why_incomplete(state: int, opener: int, depth: int) -> str:
    """Return why the document is not complete; ``opener`` is that of the innermost container, 0 for none."""
    if state == END:
        return ""
    if state == VALUE and not depth:
        return "the bytes stop before any value"
    inside = {IN_STRING: "a string", IN_KEY: "a name", IN_NUMBER: "a number"}.get(state)
    container = {OBJECT: "an object", ARRAY: "an array"}.get(opener, "a value")
    return f"the JSON text stops inside {inside or container}, {depth} deep"


UNFRAMED_NUMBER: Final = "the JSON text stops in a number at its root: more digits could follow, nothing proves the end"


def name_of(raw: bytes) -> bytes:
    """Return a name with its escapes resolved, in its quotes, as UTF-8."""
    return b'"%b"' % msgspec.json.decode(raw, type=str).encode()


def _shown(text: bytes) -> str:
    return repr(text.decode("utf-8", "backslashreplace"))
