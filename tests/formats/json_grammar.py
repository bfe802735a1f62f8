"""JSON texts for tests: valid and invalid ones by RFC 8259, and random ones with different spellings."""

import json
from typing import Any

from hypothesis import strategies as st

GOOD = {
    "empty array": b"[]",
    "empty object": b"{}",
    "white space of all kinds": b" \t\r\n[ \t\r\n] \t\r\n",
    "white space in an object": b'{ "a" : 1 , "b" : [ 2 , 3 ] }',
    "nested arrays": b"[[[[[[]]]]],[[]],[]]",
    "nested empty objects": b'{"a":{"b":{"c":{}}}}',
    "arrays and objects mixed": b'[{"a":[{"b":[]}]},[{}]]',
    "literals": b"[true,false,null]",
    "literal at the root": b"null",
    "string at the root": b'"asd"',
    "empty string at the root": b'""',
    "number at the root": b"42 ",
    "negative zero": b"[-0]",
    "negative zero as a float": b"[-0.0,-0e1]",
    "zero with exponents": b"[0e1,0e+1,0E-1]",
    "exponents": b"[1e2,1E22,1e+2,1e-2,1.5e3]",
    "leading zeros in exponents": b"[1e01,1e-007]",
    "underflow to zero": b"[1e-400,123e-10000000]",
    "the largest float": b"[1.7976931348623157e308]",
    "the smallest float": b"[5e-324]",
    "a float of many digits": b"[0." + b"1" * 400 + b"]",
    "a float between two others": b"[9007199254740993.0,0.1000000000000000055511151231257827]",
    "64 bits": b"[9223372036854775807,-9223372036854775808,18446744073709551615]",
    "more than 64 bits": b"[18446744073709551616,-9223372036854775809]",
    "1000 digits": b"[" + b"7" * 1000 + b"]",
    "every short escape": rb'["\"\\\/\b\f\n\r\t"]',
    "escapes of four digits": rb'["\u0000\u001f\u00e9\u20AC\uFFFF\uffff"]',
    "a pair of surrogates": rb'["\ud83d\ude00\uDBFF\uDFFF"]',
    "an escaped escape": rb'["\\u0061\\"]',
    "an escaped slash": rb'["\/"]',
    "escaped noncharacters": rb'["\uFDD0\uFFFE"]',
    "raw characters of two to four bytes": '["é€😀\U0010ffff"]'.encode(),
    "line separators": '["\u2028\u2029\x85"]'.encode(),
    "a byte order mark in a string": '["\ufeff"]'.encode(),
    "DEL": b'["\x7f"]',
    "brackets in strings": b'["[{]}",",:"]',
    "names of all kinds": rb'{"":0,"a.b":1,"\u0061b":2,"item":3,"*":4}',
    "one name twice": b'{"a":1,"a":2}',
    "comments in strings": b'["/* */ // #"]',
    "a long string": b'["' + b"x" * 3000 + b'"]',
    "white space after the root": b"[1] \n\n",
}

BAD = {
    "nothing": b"",
    "white space alone": b" \n",
    "no-break space": "[\u00a01]".encode(),
    "form feed": b"[\x0c]",
    "vertical tab": b"[\x0b1]",
    "NUL": b"[1\x00]",
    "comma before a value": b"[,1]",
    "comma after the last value": b"[1,]",
    "two commas after the last value": b"[1,,]",
    "two commas": b"[1,,2]",
    "comma alone": b"[,]",
    "no comma": b"[1 2]",
    "no comma between strings": b'["a""b"]',
    "no comma between containers": b"[[][]]",
    "no comma between small objects": b'[{"a":1}{"b":2}]',
    "semicolon": b"[1;2]",
    "colon in an array": b'["a":1]',
    "comma after the last member": b'{"a":1,}',
    "two commas after the last member": b'{"a":1,,}',
    "comma before a member": b'{,"a":1}',
    "comma alone in an object": b"{,}",
    "no comma between members": b'{"a":1 "b":2}',
    "no colon": b'{"a" 1}',
    "two colons": b'{"a"::1}',
    "comma for a colon": b'{"a",1}',
    "name without value": b'{"a"}',
    "colon without value": b'{"a":}',
    "value without name": b"{1}",
    "number as name": b"{1:1}",
    "literal as name": b"{null:1}",
    "array as name": b"{[]:1}",
    "bare word as name": b"{a:1}",
    "name in single quotes": b"{'a':1}",
    "string in single quotes": b"['a']",
    "deep trailing comma": b'[[{"a":[1,]}]]',
    "array closed by a brace": b"[1}",
    "object closed by a bracket": b'{"a":1]',
    "crossed closers": b'[{"a":1]}',
    "closer alone": b"]",
    "brace alone": b"}",
    "closers too many": b"[1]]",
    "braces too many": b'{"a":1}}',
    "array not closed": b"[1",
    "array not closed after a comma": b"[1,",
    "object not closed": b'{"a":1',
    "object not closed after a name": b'{"a"',
    "object not closed after a comma": b'{"a":1,',
    "openers alone": b"[[[[",
    "object opener alone": b"{",
    "string not closed": b'["a]',
    "string not closed at the root": b'"a',
    "string closed by an escaped quote": rb'["a\"]',
    "name not closed": b'{"a:1}',
    "quote alone": b'"',
    "garbage after an array": b"[1]x",
    "garbage after an object": b"{}#",
    "two documents": b"[1] [2]",
    "two documents without a space": b"{}{}",
    "two numbers": b"1 2",
    "a comma after the document": b"[1],",
    "comment of slashes": b"[1] // one",
    "comment of slashes inside": b"[1, // one\n2]",
    "comment of stars": b"[/* one */1]",
    "comment of hash": b"[1] # one",
    "true in capitals": b"[TRUE]",
    "True as in Python": b"[True]",
    "None as in Python": b"[None]",
    "true cut short": b"[tru]",
    "true too long": b"[truee]",
    "nul": b"[nul]",
    "false misspelt": b"[fals3]",
    "undefined": b"[undefined]",
    "literals without a comma": b"[truefalse]",
    "bare word": b"[a]",
    "NaN": b"[NaN]",
    "nan": b"[nan]",
    "Infinity": b"[Infinity]",
    "minus Infinity": b"[-Infinity]",
    "plus": b"[+1]",
    "plus Inf": b"[+Inf]",
    "minus alone": b"[-]",
    "two minuses": b"[--1]",
    "minus and a space": b"[- 1]",
    "minus behind": b"[1-]",
    "leading zero": b"[01]",
    "two zeros": b"[00]",
    "minus and leading zero": b"[-01]",
    "leading zero of a fraction": b"[00.1]",
    "fraction alone": b"[.5]",
    "minus and fraction alone": b"[-.5]",
    "point without digits": b"[1.]",
    "point without digits, with exponent": b"[1.e5]",
    "two points": b"[1.2.3]",
    "exponent without digits": b"[1e]",
    "exponent with a sign alone": b"[1e+]",
    "exponent with two signs": b"[1e+-2]",
    "two exponents": b"[1e2e3]",
    "fraction in the exponent": b"[1e2.5]",
    "exponent alone": b"[e1]",
    "hexadecimal": b"[0x1F]",
    "octal": b"[0o17]",
    "underscore": b"[1_000]",
    "letter in a number": b"[1a]",
    "thousands": b"[1'000]",
    "full-width digit": "[１]".encode(),
    "tab in a string": b'["a\tb"]',
    "line feed in a string": b'["a\nb"]',
    "carriage return in a string": b'["a\rb"]',
    "NUL in a string": b'["a\x00b"]',
    "0x1F in a string": b'["a\x1fb"]',
    "line feed in a name": b'{"a\nb":1}',
    "escape of x": rb'["\x61"]',
    "escape of a single quote": rb'["\'"]',
    "escape of U": rb'["\U0001F600"]',
    "escape of a": rb'["\a"]',
    "escape of 0": rb'["\0"]',
    "escape of v": rb'["\v"]',
    "escape of a line feed": b'["\\\n"]',
    "escape of a raw character": '["\\é"]'.encode(),
    "escape in a name": rb'{"\x61":1}',
    "escape outside a string": rb"[\u0061]",
    "escape without digits": rb'["\u"]',
    "escape of three digits": rb'["\u00e"]',
    "escape of no digits": rb'["\u00eg"]',
    "escape with a plus": rb'["\u+123"]',
    "lone high surrogate": rb'["\ud800"]',
    "lone low surrogate": rb'["\udc00"]',
    "surrogates the wrong way round": rb'["\ude00\ud83d"]',
    "high surrogate twice": rb'["\ud83d\ud83d"]',
    "high surrogate and text": rb'["\ud800abc"]',
    "high surrogate and another escape": rb'["\ud800\n"]',
    "high surrogate and another character": rb'["\ud800\u0061"]',
    "lone surrogate in a name": rb'{"\ud800":1}',
    "invalid UTF-8": b'["\xff"]',
    "UTF-8 cut short": b'["\xe2\x82"]',
    "UTF-8 too long": b'["\xc0\xaf"]',
    "surrogate in UTF-8": b'["\xed\xa0\x80"]',
    "beyond Unicode in UTF-8": b'["\xf4\x90\x80\x80"]',
    "continuation alone": b'["\x80"]',
    "Latin-1": b'["\xe9"]',
    "invalid UTF-8 in a name": b'{"\xff":1}',
    "invalid UTF-8 outside a string": b"[\xff]",
    "invalid UTF-8 after the document": b"[1]\xff",
    "UTF-16": '["a"]'.encode("utf-16"),
    "byte order mark inside": b"[\xef\xbb\xbf1]",
    "byte order mark behind": b"[1]\xef\xbb\xbf",
    "parenthesis": b"(1)",
    "angle brackets": b"<null>",
    "star": b"[*]",
    "escaped bracket": b"\\[]",
}

LENIENT = {"NaN", "Infinity", "minus Infinity", *(name for name in BAD if "surrogate" in name), "UTF-16"}
"""Texts that the json module of Python accepts and chunkwise refuses."""


class Members(list[tuple[str, Any]]):
    """The members of a JSON object in order; names may repeat."""


def plain(value: Any) -> Any:
    """Return the value as ``json.loads`` does."""
    if isinstance(value, Members):
        return {name: plain(member) for name, member in value}
    return [plain(element) for element in value] if isinstance(value, list) else value


NAMES = ["a", "b", "item", "x.y", "", "é", "*", "users"]
_space = st.sampled_from(["", "", "", " ", "\n", "\t ", "\r\n"])


@st.composite
def _spelt(draw: st.DrawFn, text: str) -> str:
    """Draw a JSON string, some of its characters escaped."""
    if draw(st.booleans()):
        return json.dumps(text, ensure_ascii=draw(st.booleans()))
    return '"' + "".join(f"\\u{ord(char):04x}" if ord(char) < 0xFFFF else char for char in text) + '"'


def _scalars() -> st.SearchStrategy[str]:
    numbers = st.sampled_from(["0", "-0", "1.5e3", "-0.0", "12", "1E-2", str(2**70)]) | st.integers().map(str)
    words = st.sampled_from(["true", "false", "null"])
    return numbers | words | st.sampled_from(["", "a", "é€😀", "\u2028", '"\\/\n', "\x7f"]).flatmap(_spelt)


@st.composite
def _containers(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    def around(text: str) -> str:
        return draw(_space) + text + draw(_space)

    elements = draw(st.lists(inner, max_size=4))
    if draw(st.booleans()):
        return "[" + ",".join(map(around, elements)) + draw(_space) * (not elements) + "]"
    names = [draw(st.sampled_from(NAMES).flatmap(_spelt)) for _ in elements]
    members = [around(name) + ":" + around(element) for name, element in zip(names, elements, strict=True)]
    return "{" + ",".join(members) + draw(_space) * (not elements) + "}"


json_texts: st.SearchStrategy[str] = st.recursive(_scalars(), _containers, max_leaves=12)
documents = _containers(json_texts) | json_texts.map(lambda text: text + " ")
"""Random documents that show their own end: a number is followed by a space."""
