"""formats/csv_rows.py: RFC 4180, read and written, compared with Python's csv module."""

import asyncio
import csv
import io
import math
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, EncodeError, LimitError, PathNotFound, TruncatedError
from chunkwise.formats import FORMATS
from chunkwise.formats.contract import Limits
from chunkwise.formats.csv_rows import CsvDecoder, CsvEncoder
from tests.formats.reading import bytewise, checked_places, cuts, every_split, random_split, read
from tests.formats.samples import rows, texts, values
from tests.tables import check_rows


class User(msgspec.Struct):
    name: str
    age: int
    score: float | None = None


class Pair(msgspec.Struct):
    a: str
    b: int


READ: dict[str, tuple[bytes, list[dict[str, str]]]] = {
    "CRLF": (b"a,b\r\n1,2\r\n", [{"a": "1", "b": "2"}]),
    "LF": (b"a,b\n1,2\n", [{"a": "1", "b": "2"}]),
    "quotes": (b'"a","b"\r\n"1","2"\r\n', [{"a": "1", "b": "2"}]),
    "a comma in quotes": (b'a,b\r\n"1,5",2\r\n', [{"a": "1,5", "b": "2"}]),
    "line ends in quotes": (b'a,b\r\n"x\r\ny","\n"\r\n', [{"a": "x\r\ny", "b": "\n"}]),
    "a line end in the header": (b'"a\r\nb"\r\n1\r\n', [{"a\r\nb": "1"}]),
    "escaped quotes": (b'a\r\n"say ""x"""\r\n""""\r\n', [{"a": 'say "x"'}, {"a": '"'}]),
    "CR in quotes": (b'a\r\n"\r"\r\n', [{"a": "\r"}]),
    "empty fields": (b'a,b,c\r\n,,\r\n"",,""\r\n', [{"a": "", "b": "", "c": ""}] * 2),
    "spaces are data": (b"a, b\r\n 1 , 2\r\n", [{"a": " 1 ", " b": " 2"}]),
    "blank lines are skipped": (b"\r\na\r\n\r\n1\r\n\n\n2\r\n", [{"a": "1"}, {"a": "2"}]),
    "an empty field in quotes is a row": (b'a\r\n""\r\n', [{"a": ""}]),
    "line separators are data": ("a\r\n\u2028\u2029\x85\x0b\x0c\r\n".encode(), [{"a": "\u2028\u2029\x85\x0b\x0c"}]),
    "characters of many bytes": ("é,€\r\n😀,ü\r\n".encode(), [{"é": "😀", "€": "ü"}]),
    "NUL": (b"a\r\nx\0y\r\n", [{"a": "x\0y"}]),
    "a header alone": (b"a,b\r\n", []),
    "nothing": (b"", []),
}

REFUSED: dict[str, tuple[bytes, list[dict[str, str]], str]] = {
    "a quote inside an unquoted field": (b'a\n1\nx"y"\n2\n', [{"a": "1"}], "quotes"),
    "text after a quoted field": (b'a\n1\n"x"y\n2\n', [{"a": "1"}], "quotes"),
    "a space after a quoted field": (b'a\n1\n"x" \n', [{"a": "1"}], "quotes"),
    "a space before a quoted field": (b'a\n1\n "x"\n', [{"a": "1"}], "quotes"),
    "CR alone": (b"a\n1\nx\ry\n2\n", [{"a": "1"}], "line"),
    "a field too many": (b"a,b\n1,2\n1,2,3\n4,5\n", [{"a": "1", "b": "2"}], "3 fields, expected 2"),
    "a field too few": (b"a,b\n1,2\n1\n4,5\n", [{"a": "1", "b": "2"}], "1 fields, expected 2"),
    "a comma too many": (b"a\n1\n2,\n", [{"a": "1"}], "2 fields, expected 1"),
    "a column twice": (b"a,b,a\n1,2,3\n", [], "two columns named 'a'"),
    "invalid UTF-8": (b"a\n1\n2\xff\n", [{"a": "1"}], "UTF-8"),
}


class TestDecoder:
    def test_rows_are_dicts_with_header_names(self) -> None:
        def check(data: bytes, expected: list[dict[str, str]]) -> None:
            for pieces in (*every_split(data), [data]):
                assert read(CsvDecoder, pieces) == (expected, None)

        check_rows(READ, check)

    def test_invalid_csv_fails_after_earlier_rows(self) -> None:
        def check(data: bytes, before: list[dict[str, str]], why: str) -> None:
            for pieces in every_split(data):
                got = read(CsvDecoder, pieces)
                assert got.items == before
                assert type(got.error) is DecodeError
                assert why in str(got.error)
                assert got.error.item_index == len(before)

        check_rows(REFUSED, check)

    def test_unbalanced_quote_is_always_an_error(self) -> None:
        for framed in (False, True):
            got = read(CsvDecoder, [b'a\n1\nx"y\n2\n'], framed=framed)
            assert got.items == [{"a": "1"}]
            assert isinstance(got.error, DecodeError)

    def test_type_converts_the_strings_of_cells(self) -> None:
        data = b'name,age,score\nA,5,1.5\n"B",6,null\n'
        for pieces in every_split(data):
            assert read(lambda: CsvDecoder(type=User), pieces).items == [User("A", 5, 1.5), User("B", 6)]

    def test_type_error_has_index_and_field(self) -> None:
        for pieces in every_split(b"name,age\nA,5\nB,x\nC,7\n"):
            got = read(lambda: CsvDecoder(type=User), pieces)
            assert got.items == [User("A", 5)]
            assert got.error is not None
            assert got.error.item_index == 1
            assert "$.age" in str(got.error)
        got = read(lambda: CsvDecoder(type=User), [b"name\nA\n"])
        assert "age" in str(got.error)

    def test_path_selects_one_column(self) -> None:
        data = b'a.b,c\n1,2\n"3",4\n'
        for pieces in every_split(data):
            assert read(lambda: CsvDecoder(("a.b",)), pieces) == (["1", "3"], None)
            assert read(lambda: CsvDecoder("c", type=int), pieces) == ([2, 4], None)
            assert read(lambda: CsvDecoder("*"), pieces) == (["1", "2", "3", "4"], None)
            assert read(lambda: CsvDecoder("d"), pieces) == ([], None)
            assert type(read(lambda: CsvDecoder("d", required=True), pieces).error) is PathNotFound
        assert read(lambda: CsvDecoder("c", required=True), [b"a,c\n"]) == ([], None)
        with pytest.raises(TypeError, match="one column"):
            CsvDecoder("a.b")

    def test_too_long_row_fails_after_earlier_rows(self) -> None:
        limits = Limits(max_item_bytes=6)
        for row in (b"123,567\r\n", b'"1","2"\n', b'"1\n\n\n2"\n', "é,€5\n".encode()):
            data = b"a,b\n1,2345\r\n\xc3\xa9,\xe2\x82\xac\n%b3,4\n" % row
            for pieces in every_split(data):
                got = read(lambda: CsvDecoder(limits=limits), pieces)
                assert got.items == [{"a": "1", "b": "2345"}, {"a": "é", "b": "€"}]
                assert type(got.error) is LimitError
        assert type(read(lambda: CsvDecoder(limits=limits), [b'a\n"' + b"x" * 20]).error) is LimitError

    def test_open_quote_differs_from_missing_line_end(self) -> None:
        quoted = read(CsvDecoder, [b'a\n"x\n'], framed=True).error
        assert type(quoted) is TruncatedError
        assert "quoted" in str(quoted)

    @given(
        table=st.integers(1, 4).flatmap(
            lambda width: st.lists(
                st.lists(st.text(max_size=6), min_size=width, max_size=width), min_size=1, max_size=5
            )
        ),
        quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
        line_end=st.sampled_from(["\r\n", "\n"]),
        drawn=cuts,
    )
    def test_rows_of_python_csv_are_decoded(
        self, table: list[list[str]], quoting: Any, line_end: str, drawn: list[int]
    ) -> None:
        header = [f"{index}{name}" for index, name in enumerate(table[0])]
        text = io.StringIO(newline="")
        writer = csv.writer(text, quoting=quoting, lineterminator=line_end)
        plain = [
            [cell if line_end == "\r\n" else cell.replace("\r", "") for cell in row] for row in [header, *table[1:]]
        ]
        writer.writerows(plain)  # (with "\n" alone, Python leaves a lone CR without quotes)
        data = text.getvalue().encode()
        expected = [dict(zip(plain[0], row, strict=True)) for row in plain[1:]]
        for pieces in ([data], bytewise(data), random_split(data, drawn)):
            assert read(CsvDecoder, pieces) == (expected, None)


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


class TestEncoder:
    @given(sent=rows())
    def test_python_csv_reads_encoded_rows(self, sent: list[dict[str, str]]) -> None:
        data = CsvEncoder().encode(sent).decode()
        assert list(csv.DictReader(io.StringIO(data, newline=""))) == sent

    def test_iterators_and_awaitables_in_rows_are_refused(self) -> None:
        encoder = CsvEncoder()
        live: list[Any] = [iter([1]), asyncio.sleep(0)]
        for part in live:
            for batch in ([{"a": 1}, {"a": part}], [{"a": 1}, {"a": [part]}], [{"a": 1}, part]):
                with pytest.raises(EncodeError) as caught:
                    encoder.encode(batch)
                assert caught.value.item_index == 1
            with pytest.raises(EncodeError, match="cannot contain an iterator"):
                encoder.encode([{"a": {"b": part}}])
        live[1].close()
        assert encoder.encode([{"a": 1}]) == b"a\r\n1\r\n"
        with pytest.raises(EncodeError, match="cannot contain an iterator") as caught:
            encoder.open_item()
        assert caught.value.item_index == 1

    def test_values_other_than_text_are_encoded(self) -> None:
        row = {
            "none": None,
            "yes": True,
            "no": False,
            "int": 2**70,
            "float": 1e22,
            "zero": -0.0,
            "list": [1, "a"],
            "dict": {"b": None},
            "date": date(2024, 5, 17),
            "text": "x",
        }
        got = read(CsvDecoder, [CsvEncoder().encode([row])]).items
        assert got == [
            {
                "none": "",
                "yes": "true",
                "no": "false",
                "int": str(2**70),
                "float": "1e+22",
                "zero": "-0.0",
                "list": '[1,"a"]',
                "dict": '{"b":null}',
                "date": "2024-05-17",
                "text": "x",
            }
        ]

    @given(data=st.data())
    def test_batch_size_does_not_change_bytes(self, data: st.DataObject) -> None:
        names = data.draw(st.lists(texts, min_size=2, max_size=4, unique=True))
        cells = st.floats() | values | st.dates() | st.just(object())
        kinds = [data.draw(st.sampled_from([st.floats(), st.integers(), texts, st.booleans(), cells])) for _ in names]
        row = st.fixed_dictionaries(dict(zip(names, kinds, strict=True)))
        batch = data.draw(st.lists(row, min_size=1, max_size=4))
        encoder = CsvEncoder()
        encoder.encode([dict.fromkeys(names, "")])
        try:
            expected = encoder._encode_each(batch)
        except EncodeError as error:
            index = error.item_index
            with pytest.raises(EncodeError) as caught:
                encoder.encode(batch)
            assert caught.value.item_index == index
        else:
            assert encoder._encode_alike(batch) == expected
            assert encoder.encode(batch) == expected

    def test_rows_of_different_types_are_encoded(self) -> None:
        encoder = CsvEncoder()
        encoder.encode([{"a": 1, "b": 2}])
        assert encoder._encode_alike([{"a": 1, "b": 2}, {"b": 2, "a": True}]) == b"1,2\r\ntrue,2\r\n"
        for odd in ([{"a": 1}], [{"a": 1, "c": 2}], [{"a": 1, "b": math.nan}], [{"a": 1, "b": 2}, User("A", 5)]):
            assert encoder._encode_alike(odd) is None

    def test_rows_end_with_crlf_after_one_header(self) -> None:
        encoder = CsvEncoder()
        parts = [
            encoder.start(),
            encoder.encode([]),
            encoder.encode([{"a": 1, "b": 2}]),
            encoder.encode([{"b": 4, "a": 3}]),
        ]
        assert b"".join([*parts, encoder.finish()]) == b"a,b\r\n1,2\r\n3,4\r\n"

    def test_none_and_missing_values_are_empty_fields(self) -> None:
        assert CsvEncoder().encode([{"a": 1, "b": 2}, {"a": 3}, {}]) == b"a,b\r\n1,2\r\n3,\r\n,\r\n"

    def test_structs_are_encoded_and_decoded(self) -> None:
        users = [User("A", 5, 1.5), User('B "x",\r\n', 6, 0.0)]
        assert read(lambda: CsvDecoder(type=User), [CsvEncoder().encode(users)]).items == users

    def test_row_not_matching_header_is_refused(self) -> None:
        def check(bad: Any) -> None:
            encoder = CsvEncoder()
            assert encoder.encode([{"a": 1, "b": 2}]) == b"a,b\r\n1,2\r\n"
            with pytest.raises(EncodeError) as caught:
                encoder.encode([{"a": 1}, bad, {"a": 2}])
            assert caught.value.item_index == 2
            assert encoder.encode([{"a": 3, "b": 4}]) == b"3,4\r\n"

        check_rows(
            {
                ascii(value): value
                for value in [
                    1,
                    "x",
                    None,
                    [1],
                    [],
                    {"c": 1},
                    {"a": 1, "c": 2},
                    {1: 2},
                    ENDLESS,
                    {"b": "\ud800"},
                    Pair("\udfff", 1),
                ]
            },
            check,
        )

    def test_first_item_without_keys_is_refused(self) -> None:
        def check(bad: Any) -> None:
            encoder = CsvEncoder()
            with pytest.raises(EncodeError) as caught:
                encoder.encode([bad])
            assert caught.value.item_index == 0
            assert encoder.encode([{"a": 3}]) == b"a\r\n3\r\n"

        check_rows(
            {
                ascii(value): value
                for value in [{}, {1: 2}, {"a": 1, None: 2}, 5, [1], ENDLESS, {"\ud800": 1}, {"a": ["\ud800"]}]
            },
            check,
        )


def test_checkpoint_has_the_header() -> None:
    rows = [b'"a, ""b",c\r\n', b"1,2\r\n", b'"\xc3\xa9\r\n",""\n', b"\n5,6\n"]
    places = checked_places(CsvDecoder, rows)
    assert [(place.byte_offset, place.item_index) for place in places] == [(17, 1), (27, 2), (32, 3)]
    assert {place.before for place in places} == {b'\xef\xbb\xbf"a, ""b","c"\r\n'}
    checked_places(CsvDecoder, bytewise(b"".join(rows)))


@pytest.mark.parametrize(
    ("last", "row"), [(b"2", "2"), (b"2\r", "2"), (b'"2"', "2"), (b'"2\n"\r', "2\n"), (b'""', ""), (b"\r", None)]
)
def test_last_row_without_line_end_needs_framing(last: bytes, row: str | None) -> None:
    whole = [{"a": each} for each in ("1", row) if each is not None]
    for pieces in every_split(b"a\n1\n" + last):
        assert read(CsvDecoder, pieces, framed=True) == (whole, None)
        got = read(CsvDecoder, pieces)
        assert got.items == [{"a": "1"}]
        assert type(got.error) is (type(None) if row is None else TruncatedError)


@pytest.mark.usefixtures("speedups_and_fallback")
def test_stray_quote_error_has_its_offset() -> None:
    decoder = FORMATS["csv"].decoder()
    assert decoder.feed(b'a,b\n1,2\n3,5" pipe') == [{"a": "1", "b": "2"}]
    with pytest.raises(DecodeError, match="quote in a field") as caught:
        decoder.feed(b"")
    assert (caught.value.item_index, caught.value.byte_offset) == (1, 11)


@pytest.mark.usefixtures("speedups_and_fallback")
def test_opening_quote_may_be_anywhere_in_chunk() -> None:
    data = b'a,b\r\n"x","y ""z"""\r\n"",""\r\n'
    for cut in range(len(data)):
        decoder = FORMATS["csv"].decoder()
        items = [*decoder.feed(data[:cut]), *decoder.feed(data[cut:]), *decoder.finish()]
        assert items == [{"a": "x", "b": 'y "z"'}, {"a": "", "b": ""}]
