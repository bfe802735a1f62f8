"""transports/content_coding.py: chunks can be read at once, the end is proven, and memory is limited."""

import gzip
import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from itertools import pairwise

import brotli  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.errors import DecodeError, LimitError, StreamError, TruncatedError
from chunkwise.transports.content_coding import CODINGS, MAX_RATIO, Compressor, Decompressor
from tests.each_row import each_row

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ROWS = [b'{"n": %d, "name": "Tom %d"}\n' % (n, n * n) for n in range(40)]
TEXT = b"".join(ROWS)
NOISE = random.Random(1).randbytes(300_000)
MIB = 1024 * 1024
SKIPPABLE = bytes.fromhex("502a4d18") + b"\x05\0\0\0hello"  # RFC 8878 §3.1.2

codings = each_row("coding", CODINGS)


def raw_deflate(data: bytes, level: int = 6) -> bytes:
    engine = zlib.compressobj(level, wbits=-15)
    return engine.compress(data) + engine.flush()


def gzip_with_a_name(data: bytes) -> bytes:
    plain = gzip.compress(data)
    return plain[:3] + b"\x08" + plain[4:10] + b"rows.json\0" + plain[10:]


def small_window(data: bytes) -> bytes:
    engine = zlib.compressobj(9, wbits=9)
    return engine.compress(data) + engine.flush()


FOREIGN: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "gzip with a name": ("gzip", gzip_with_a_name),
    "zlib": ("deflate", zlib.compress),
    "zlib stored": ("deflate", lambda data: zlib.compress(data, 0)),
    "zlib small window": ("deflate", small_window),
    "raw deflate": ("deflate", raw_deflate),
    "raw deflate stored": ("deflate", lambda data: raw_deflate(data, 0)),
    "br": ("br", brotli.compress),
    "br fast": ("br", lambda data: bytes(brotli.compress(data, quality=0, lgwin=10))),
    "zstd": ("zstd", zstd.compress),
    "zstd slow": ("zstd", lambda data: zstd.compress(data, 19)),
    "zstd with a checksum": (
        "zstd",
        lambda data: zstd.compress(data, options={int(zstd.CompressionParameter.checksum_flag): 1}),
    ),
}
foreign = each_row(("coding", "compress"), FOREIGN.values(), ids=FOREIGN)


DECODED_BY: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "br": brotli.decompress,
    "zstd": zstd.decompress,
}


def coded(coding: str, pieces: Iterable[bytes]) -> bytes:
    compressor = Compressor(coding)
    return b"".join([*map(compressor.piece, pieces), compressor.finish()])


def read(coding: str, *pieces: bytes) -> tuple[bytes, StreamError | None]:
    """Return the bytes decompressed from the chunks, and the error after them."""
    came: list[bytes] = []
    decompressor = Decompressor(coding)
    try:
        for piece in pieces:
            for out in decompressor.feed(piece):
                assert 0 < len(out) <= 256 * 1024
                came.append(out)
        decompressor.finish()
    except StreamError as error:
        return b"".join(came), error
    return b"".join(came), None


def sizes_of(pieces: Iterable[bytes]) -> tuple[list[int], StreamError | None]:
    """Return the sizes of the decompressed chunks, which are not kept, and the error after them."""
    sizes: list[int] = []
    try:
        for piece in pieces:
            sizes.append(len(piece))  # noqa: PERF401 - the items before an error are kept
    except StreamError as error:
        return sizes, error
    return sizes, None


def bytewise(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Split the data at the places, each taken modulo its length plus one."""
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(ends)]


# ---- round trips


@codings
@given(data=st.data())
def test_any_split_decompresses_the_same(coding: str, data: st.DataObject) -> None:
    pieces = data.draw(st.lists(st.one_of(st.binary(max_size=300), st.sampled_from(ROWS))))
    wire = coded(coding, pieces)
    places = data.draw(st.lists(st.integers(0, 10_000)))
    assert read(coding, *cut(wire, places)) == (b"".join(pieces), None)
    assert read(coding, *bytewise(wire)) == (b"".join(pieces), None)


@codings
def test_each_chunk_decompresses_at_once(coding: str) -> None:
    compressor, decompressor = Compressor(coding), Decompressor(coding)
    for piece in (*ROWS, b"x", NOISE, TEXT * 5000, b"y"):
        assert b"".join(decompressor.feed(compressor.piece(piece))) == piece
    assert b"".join(decompressor.feed(compressor.finish())) == b""
    decompressor.finish()


@codings
def test_empty_input_gives_no_output(coding: str) -> None:
    compressor = Compressor(coding)
    assert compressor.piece(b"") == b""
    first = compressor.piece(b"a")
    assert compressor.piece(b"") == b""
    assert DECODED_BY[coding](first + compressor.finish()) == b"a"


@codings
@each_row("pieces", [[], [b"a"], ROWS, [NOISE, TEXT * 1000, NOISE]], ids=["none", "one", "rows", "long"])
def test_other_decoders_read_our_codings(coding: str, pieces: list[bytes]) -> None:
    assert DECODED_BY[coding](coded(coding, pieces)) == b"".join(pieces)


@foreign
@each_row("data", [b"", b"a", TEXT, NOISE, TEXT * 500], ids=["none", "one", "rows", "noise", "long"])
def test_other_compressors_are_read(coding: str, compress: Callable[[bytes], bytes], data: bytes) -> None:
    wire = compress(data)
    assert read(coding, wire) == (data, None)
    assert read(coding, *cut(wire, range(0, len(wire), 997))) == (data, None)
    assert read(coding, *bytewise(wire[:5000]), wire[5000:]) == (data, None)
    assert read(coding, wire[:1], wire[1:]) == (data, None)
    assert read(coding, b"", wire, b"") == (data, None)


@each_row("size", [step + more for step in (32, 64, 96, 128, 256, 352) for more in (-0.001, 0, 0.001, 1)])
@codings
def test_output_of_any_size_is_complete(coding: str, size: float) -> None:
    data = bytes(int(size * 1024)) + b"end"
    compressor, decompressor = Compressor(coding), Decompressor(coding)
    assert b"".join(decompressor.feed(compressor.piece(data))) == data
    assert read(coding, coded(coding, [data])) == (data, None)


def test_compression_windows_are_small() -> None:
    assert coded("br", [TEXT])[0] & 0b1 == 0  # RFC 7932 §9.1: 2**16
    options = {int(zstd.DecompressionParameter.window_log_max): 16}
    assert zstd.decompress(coded("zstd", [TEXT]), options=options) == TEXT


def test_compressor_refuses_an_unknown_coding() -> None:
    with pytest.raises(ValueError, match="unknown content coding 'lzma', expected one of zstd, gzip, br, deflate"):
        Compressor("lzma")


# ---- the header


@pytest.mark.parametrize("value", ["", "identity", " Identity , ", ",,"])
def test_identity_leaves_bytes_unchanged(value: str) -> None:
    assert read(value) == (b"", None)
    assert read(value, TEXT, NOISE, b"") == (TEXT + NOISE, None)


@pytest.mark.parametrize("value", ["gzip, br", "GZIP,BR", "x-gzip, identity, br", "gzip\t,  br,"])
def test_codings_are_undone_in_reverse_order(value: str) -> None:
    wire = brotli.compress(gzip.compress(TEXT * 100))
    assert read(value, wire) == (TEXT * 100, None)
    assert read(value, *bytewise(wire)) == (TEXT * 100, None)
    assert isinstance(read("br, gzip", wire)[1], DecodeError)


def test_all_codings_can_be_combined() -> None:
    wire = TEXT
    for coding in CODINGS:
        wire = coded(coding, [wire])
    assert read(", ".join(CODINGS), *bytewise(wire)) == (TEXT, None)


def test_every_coding_of_a_message_must_end() -> None:
    inner = gzip.compress(TEXT)
    for wire in (brotli.compress(inner)[:-1], brotli.compress(inner[:-1]), brotli.compress(b"")):
        came, error = read("gzip, br", wire)
        assert TEXT.startswith(came)
        assert isinstance(error, TruncatedError)


@pytest.mark.parametrize("value", ["lzma", "gzip, compress", "gzip;q=1", "gzip br"])
def test_decompressor_refuses_an_unknown_coding(value: str) -> None:
    with pytest.raises(DecodeError, match=r"unknown content coding '.*', expected one of zstd, gzip, br, deflate"):
        Decompressor(value)


def test_number_of_codings_is_limited() -> None:
    Decompressor(", ".join(["gzip"] * 5))
    with pytest.raises(LimitError, match="6 content codings"):
        Decompressor(", ".join(["gzip"] * 6))


# ---- the end


@foreign
def test_every_cut_is_reported_after_its_bytes(coding: str, compress: Callable[[bytes], bytes]) -> None:
    wire = compress(TEXT)
    for length in range(1, len(wire)):
        came, error = read(coding, wire[:length])
        assert TEXT.startswith(came)
        assert isinstance(error, TruncatedError)
        assert error.bytes_seen == len(came)
        assert f"after {length} compressed bytes" in str(error)


@codings
def test_cut_of_our_coding_loses_no_whole_chunk(coding: str) -> None:
    compressor = Compressor(coding)
    wire, ends = b"", []
    for row in ROWS:
        wire += compressor.piece(row)
        ends.append(len(wire))
    wire += compressor.finish()
    for length in range(1, len(wire)):
        came, error = read(coding, wire[:length])
        assert isinstance(error, TruncatedError)
        assert TEXT.startswith(came)
        assert came.startswith(b"".join(ROWS[: sum(end <= length for end in ends)]))


@codings
def test_body_of_zero_bytes_is_complete(coding: str) -> None:
    assert read(coding) == (b"", None)
    assert read(coding, b"", b"") == (b"", None)


@pytest.mark.parametrize("pad", [b"", b"\0", b"\0" * 5000])
def test_gzip_members_may_have_padding(pad: bytes) -> None:
    wire = gzip.compress(TEXT) + pad + gzip.compress(b"") + gzip.compress(NOISE) + pad
    assert read("gzip", wire) == (TEXT + NOISE, None)
    assert read("gzip", *cut(wire, range(0, len(wire), 7))) == (TEXT + NOISE, None)
    assert read("gzip", *bytewise(gzip.compress(TEXT) + pad + gzip.compress(b"a") + pad)) == (TEXT + b"a", None)


def test_cut_in_a_later_gzip_member_is_reported() -> None:
    first, second = gzip.compress(TEXT), gzip.compress(b"abc")
    for length in range(1, len(second)):
        came, error = read("gzip", first + second[:length])
        assert came[: len(TEXT)] == TEXT
        assert isinstance(error, TruncatedError)


def test_skippable_zstd_frames_are_skipped() -> None:
    wire = SKIPPABLE + zstd.compress(TEXT) + SKIPPABLE + zstd.compress(b"") + zstd.compress(NOISE) + SKIPPABLE
    assert read("zstd", wire) == (TEXT + NOISE, None)
    assert read("zstd", *cut(wire, range(0, len(wire), 7))) == (TEXT + NOISE, None)
    assert read("zstd", *bytewise(SKIPPABLE + zstd.compress(b"a") + SKIPPABLE)) == (b"a", None)
    for length in range(1, len(SKIPPABLE)):
        assert isinstance(read("zstd", zstd.compress(b"a") + SKIPPABLE[:length])[1], TruncatedError)


@foreign
@each_row("garbage", [b"x", b"\0x", b"<html>" * 1000, b"\x1fx", b"\x28x"])
def test_bytes_after_the_end_are_reported(coding: str, compress: Callable[[bytes], bytes], garbage: bytes) -> None:
    wire = compress(TEXT)
    for pieces in ([wire, garbage], [*bytewise(wire), *bytewise(garbage)]):
        came, error = read(coding, *pieces)
        assert came == TEXT
        assert type(error) is DecodeError
    came, error = read(coding, wire + garbage)  # brotli loses the output of the call that fails
    assert TEXT.startswith(came) if coding == "br" else came == TEXT
    assert type(error) is DecodeError


@pytest.mark.parametrize(("coding", "wire"), [("br", brotli.compress(TEXT)), ("deflate", zlib.compress(TEXT))])
def test_second_br_or_deflate_stream_is_refused(coding: str, wire: bytes) -> None:
    assert type(read(coding, wire, wire)[1]) is DecodeError
    assert type(read(coding, wire, b"\0")[1]) is DecodeError


# ---- defects


@foreign
@given(data=st.data())
def test_corrupt_bytes_raise_only_our_errors(
    coding: str, compress: Callable[[bytes], bytes], data: st.DataObject
) -> None:
    wire = bytearray(compress(TEXT))
    for place in data.draw(st.lists(st.integers(0, len(wire) - 1), min_size=1, max_size=3)):
        wire[place] ^= data.draw(st.integers(1, 255))
    read(coding, bytes(wire))
    read(coding, *cut(bytes(wire), data.draw(st.lists(st.integers(0, 10_000)))))


@codings
@given(wire=st.binary(min_size=1))
def test_arbitrary_bytes_raise_only_our_errors(coding: str, wire: bytes) -> None:
    read(coding, wire)
    read(coding, *bytewise(wire))


def flipped(wire: bytes, place: int) -> bytes:
    return wire[:place] + bytes([wire[place] ^ 0xFF]) + wire[place + 1 :]


def bytewise_from(data: bytes, place: int) -> list[bytes]:
    """Return the data up to shortly before the place in one chunk, and the rest byte by byte."""
    start = max(place - 100, 0)
    return [data[:start], *bytewise(data[start:])]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_output_before_a_defect_ignores_the_split(coding: str) -> None:
    wire = coded(coding, ROWS * 20)
    failed = 0
    for place in range(0, len(wire), 53):
        bad = flipped(wire, place)
        came, error = read(coding, *bytewise_from(bad, place))
        failed += bool(came) and error is not None
        for pieces in ([bad], cut(bad, range(0, len(bad), 1000)), [bad[:place], bad[place:]]):
            again, told = read(coding, *pieces)
            assert again == came
            assert str(told) == str(error)
    assert failed > 30


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_br_and_zstd_keep_output_before_a_defect(coding: str) -> None:
    wire = coded(coding, ROWS * 20)
    failed = 0
    for place in range(0, len(wire), 53):
        bad = flipped(wire, place)
        came, error = read(coding, *bytewise_from(bad, place))
        again, told = read(coding, bad)
        assert came.startswith(again)
        assert type(told) is type(error)
        assert again.startswith(read(coding, bad[: max(place - 64, 0)])[0])
        failed += bool(again) and type(error) is DecodeError
    assert failed > 10


def test_bad_checksum_is_reported_after_all_data() -> None:
    wire = gzip.compress(NOISE)
    came, error = read("gzip", flipped(wire, len(wire) - 8))
    assert came == NOISE
    assert type(error) is DecodeError
    assert error.byte_offset == len(NOISE)
    assert "malformed gzip data: " in str(error)


@each_row("literals", range(128, 260, 3))
def test_match_over_a_full_buffer_precedes_a_defect(literals: int) -> None:
    # RFC 1951 §3.2.6: a block of fixed codes with zeros, matches of 258 zeros, and an undefined code.
    bits = "110" + "00110000" * literals + ("11000101" + "00000") * 254 + "11000110"
    bits += "0" * (-len(bits) % 8)
    wire = bytes(int(bits[start : start + 8][::-1], 2) for start in range(0, len(bits), 8))
    for pieces in ([wire], bytewise(wire)):
        came, error = read("deflate", *pieces)
        assert came == bytes(literals + 254 * 258)
        assert type(error) is DecodeError


@codings
def test_error_is_raised_again(coding: str) -> None:
    decompressor = Decompressor(coding)
    with pytest.raises(DecodeError) as caught:
        list(decompressor.feed(b"\xff" * 100))
    with pytest.raises(DecodeError) as again:
        list(decompressor.feed(coded(coding, [TEXT])))
    assert again.value is caught.value
    with pytest.raises(DecodeError) as last:
        decompressor.finish()
    assert last.value is caught.value


def test_zstd_window_is_limited_to_8_mib() -> None:
    def framed(window_log: int) -> bytes:
        engine = zstd.ZstdCompressor(options={int(zstd.CompressionParameter.window_log): window_log})
        return engine.compress(TEXT) + engine.flush()

    assert read("zstd", framed(23)) == (TEXT, None)
    came, error = read("zstd", framed(24))
    assert (came, type(error)) == (b"", DecodeError)


# ---- bombs


def bomb(coding: str, size: int) -> bytes:
    """Return zeros, compressed as much as possible."""
    if coding == "br":
        return bytes(brotli.compress(bytes(size), quality=9, lgwin=24))
    return coded(coding, [bytes(size)])


@codings
def test_bomb_is_refused_with_little_memory(coding: str) -> None:
    wire = bomb(coding, 64 * MIB) + NOISE  # the ratio of all bytes together is below the limit
    decompressor = Decompressor(coding, max_ratio=100)
    tracemalloc.start()
    try:
        sizes, error = sizes_of(decompressor.feed(wire))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(error, LimitError)
    assert "expected no more than 100 for each compressed byte (max_ratio)" in str(error)
    assert max(sizes) <= 256 * 1024
    assert MIB - 128 * 1024 < sum(sizes) < 8 * MIB
    assert error.byte_offset == sum(sizes)
    assert peak < MIB
    with pytest.raises(LimitError):
        decompressor.finish()


@codings
def test_unlimited_ratio_needs_little_memory(coding: str) -> None:
    wire = bomb(coding, 64 * MIB)
    decompressor = Decompressor(coding, max_ratio=10**9)
    tracemalloc.start()
    try:
        assert sum(map(len, decompressor.feed(wire))) == 64 * MIB
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    decompressor.finish()


def test_bomb_between_two_codings_is_refused() -> None:
    # Empty gzip members have no output, but 2 MB of them are read.
    wire = brotli.compress(gzip.compress(b"") * 100_000)
    decompressor = Decompressor("gzip, br")
    with pytest.raises(LimitError, match=r"bytes \(coding br\)"):
        list(decompressor.feed(wire))


def test_bomb_inside_a_bomb_is_refused() -> None:
    wire = gzip.compress(gzip.compress(bytes(256 * MIB)))
    assert len(wire) < 1024
    sizes, error = sizes_of(Decompressor("gzip, gzip").feed(wire))
    assert sum(sizes) <= MAX_RATIO * len(wire)
    assert isinstance(error, LimitError)


@codings
def test_repetitive_data_below_the_ratio_passes(coding: str) -> None:
    rows = b"".join(b'{"n": %d, "status": "ok", "name": "Tom"}\n' % (n % 100) for n in range(220_000))
    wire = coded(coding, cut(rows, range(0, len(rows), 4096)))
    assert len(rows) > 8 * MIB
    assert len(rows) > 50 * len(wire)
    assert read(coding, wire) == (rows, None)
    assert read(coding, *cut(wire, range(0, len(wire), 100))) == (rows, None)


@codings
def test_first_bytes_may_have_any_ratio(coding: str) -> None:
    data = bytes(MIB)
    decompressor = Decompressor(coding, max_ratio=1)
    assert b"".join(decompressor.feed(bomb(coding, MIB))) == data
    decompressor.finish()
    with pytest.raises(LimitError):
        list(Decompressor(coding, max_ratio=1, free_bytes=MIB - 1).feed(bomb(coding, MIB)))
