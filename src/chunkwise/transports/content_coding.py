"""Bytes <-> bytes in a content coding (RFC 9110 §8.4.1): zstd, gzip, br and deflate, bounded and piece by piece."""

import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import brotli  # type: ignore[import-untyped]

from chunkwise.errors import DecodeError, LimitError, TruncatedError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CODINGS: tuple[str, ...] = ("zstd", "gzip", "br", "deflate")
"""The codings that a server may send, its favourite first: zstd is the fastest, br takes the most memory."""

MAX_RATIO = 10_000
"""The most bytes that one compressed byte may become. Equal rows of our server reach 3,400, a br bomb 112,000."""

_PIECE_BYTES = 64 * 1024  # output is gathered to this size, so that a decoder is called once for many items
_STEP_BYTES = 64 * 1024  # asked from an engine at once; brotli returns half as much again
_WIRE_BYTES = 4 * 1024  # counted at once, so that a bomb is noticed long before its end
_FINE_BYTES = 64  # passed at once to an engine that has no copy(), see `_Layer`
_MAX_CODINGS = 5  # in one message, as in curl: each costs a window, and no real server uses more than two

# RFC 9659: as a content coding, zstd has a window of 8 MiB at most.
_UNZSTD: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}
_ZSTD: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 1,
    zstd.CompressionParameter.window_log: 16,
    zstd.CompressionParameter.hash_log: 13,
}


def codings_of(content_encoding: str) -> list[str]:
    """Return the codings of a Content-Encoding header, in the order in which they were applied."""
    names = (name.strip().lower() for name in content_encoding.split(","))
    return [name for name in names if name not in ("", "identity")]


class Compressor:
    """Bytes -> bytes in one of the `CODINGS`. Each piece can be decoded as soon as it arrives."""

    # Higher levels cost much time for little size, and streams are compressed on the loop, for each reader separately.
    # Windows are small, because a server has hundreds of streams at once. After 1.2 MB of JSON rows, one compressor
    # took 169 KiB (zstd), 115 (gzip, deflate), 423 (br); with level 3 and a window of 512 KiB, zstd took 1,338 and made
    # movies.json 7.0 times smaller instead of 6.0. Flushed after each row, it is 4.3 times smaller (gzip 5.2).

    def __init__(self, coding: str) -> None:
        if coding not in CODINGS:
            raise ValueError(f"unknown content coding {coding!r}, expected one of {', '.join(CODINGS)}")
        engine: Any
        if coding == "br":
            engine = brotli.Compressor(quality=3, lgwin=16)
            self._compress, self._flush, self._finish = engine.process, engine.flush, engine.finish
            return
        if coding == "zstd":
            engine, mode = zstd.ZstdCompressor(options=_ZSTD), zstd.ZstdCompressor.FLUSH_BLOCK
        else:
            # RFC 9110 §8.4.1.2: "deflate" is the zlib format, not what RFC 1951 calls deflate.
            engine, mode = zlib.compressobj(6, wbits=30 if coding == "gzip" else 14, memLevel=7), zlib.Z_SYNC_FLUSH
        self._compress, self._flush, self._finish = engine.compress, partial(engine.flush, mode), engine.flush

    def piece(self, data: bytes) -> bytes:
        """Return the coded bytes for ``data``, none for none."""
        return bytes(self._compress(data) + self._flush()) if data else b""

    def finish(self, data: bytes = b"") -> bytes:
        """Return the coded bytes for ``data``, and the end of the coded stream."""
        return bytes(self._compress(data) + self._finish())


class Decompressor:
    """The bytes of a message with a Content-Encoding -> its content, and whether that is whole.

    ``free_bytes`` are allowed at any ratio; above that, one compressed byte may become ``max_ratio`` bytes in any
    coding. An unknown coding raises `DecodeError`, and more than five `LimitError`.
    """

    def __init__(self, content_encoding: str, *, max_ratio: int = MAX_RATIO, free_bytes: int = 1024 * 1024) -> None:
        names = codings_of(content_encoding)
        for name in names:
            if name not in (*CODINGS, "x-gzip"):
                raise DecodeError(f"unknown content coding {name!r}, expected one of {', '.join(CODINGS)}")
        if len(names) > _MAX_CODINGS:
            raise LimitError(f"{len(names)} content codings over one another, the limit is {_MAX_CODINGS}")
        self._layers = [_Layer(name) for name in reversed(names)]
        self._max_ratio = max_ratio
        self._free_bytes = free_bytes
        self._wire_bytes = 0
        self._bytes_given = 0
        self._failure: DecodeError | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the content of some data, in pieces of less than 256 KiB; read them all before the next call.

        A defect raises `DecodeError`, and too high a ratio `LimitError`, after everything before it was yielded.
        """
        held = bytearray()
        try:
            if self._failure is not None:
                raise self._failure
            for part in _parts(data, _WIRE_BYTES if self._layers else _PIECE_BYTES):
                self._wire_bytes += len(part)
                for out in self._undone(part, 0):
                    self._bytes_given += len(out)
                    held += out
                    if len(held) >= _PIECE_BYTES:
                        piece, held = bytes(held), bytearray()
                        yield piece
        except DecodeError as error:
            error.byte_offset = self._bytes_given
            self._failure = error
        if held:
            yield bytes(held)
        if self._failure is not None:
            raise self._failure

    def finish(self) -> None:
        """Raise TruncatedError if a coding has not ended. A body without any byte was not coded, and is whole."""
        if self._failure is not None:
            raise self._failure
        for layer in self._layers:
            if self._wire_bytes and not layer.whole:
                msg = f"the {layer.coding} stream stops before its end, after {self._wire_bytes} coded bytes"
                raise TruncatedError(msg, bytes_seen=self._bytes_given)

    def _undone(self, data: bytes, index: int) -> Iterator[bytes]:
        """Undo the codings from an index on."""
        if index == len(self._layers):
            yield data
            return
        layer = self._layers[index]
        for out in layer.feed(data):
            # Also between two codings: one may inflate bytes that the next one ignores.
            layer.bytes_given += len(out)
            if layer.bytes_given > max(self._free_bytes, self._max_ratio * self._wire_bytes):
                raise LimitError(
                    f"decompressed/wire ratio over {self._max_ratio}: "
                    f"{self._wire_bytes} bytes of {layer.coding} became {layer.bytes_given}"
                )
            yield from self._undone(out, index + 1)


class _Layer:
    """One coding to undo, with one engine for each gzip member or zstd frame."""

    def __init__(self, coding: str) -> None:
        self.coding = coding.removeprefix("x-")  # RFC 9110 §8.4.1.3
        self.bytes_given = 0
        self.whole = False  # whether the bytes may end here
        self._engine: Any = None
        self._copies = coding not in ("br", "zstd")
        # An output of this size means that the engine may hold more. Brotli may return 32 KiB and keep the rest, even
        # if `can_accept_more_data`: it holds no more only once it returns nothing.
        self._full = 1 if coding == "br" else _STEP_BYTES

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the output for some data, about `_STEP_BYTES` at once; raise `DecodeError` after it."""
        # The output of a call that fails is lost. zlib's engine is copied before, and the copy is fed byte by byte up
        # to the defect. Those of brotli and zstd have no copy(), so they get few bytes per call: only the output of
        # these may be lost, more or less of it depending on the split.
        for part in _parts(data, _WIRE_BYTES if self._copies else _FINE_BYTES):
            rest, full = part, False
            while rest or full:
                if self._engine is None and not (rest := self._begin(rest)):
                    break
                before = self._engine.copy() if self._copies else None
                try:
                    out = self._engine.decompress(rest, _STEP_BYTES)
                except (zlib.error, brotli.error, zstd.ZstdError) as error:
                    if before is not None:
                        yield from _up_to_the_defect(before, rest)
                    raise self._corrupt(error) from error
                yield out
                self.whole = self._engine.eof
                full = len(out) >= self._full and not self.whole
                rest = self._engine.unused_data if self.whole else getattr(self._engine, "unconsumed_tail", b"")
                if self.whole:
                    self._engine = None

    def _begin(self, data: bytes) -> bytes:
        """Make the engine for the next member or frame; return the data without the padding before it."""
        if self.whole and self.coding == "gzip":
            data = data.lstrip(b"\0")  # as gzip does
        if self.whole and data and not (self.coding == "zstd" or (self.coding == "gzip" and data[0] == 0x1F)):
            raise self._corrupt("got more bytes after its end, expected none")
        if not data:
            return data
        if self.coding == "zstd":
            self._engine = zstd.ZstdDecompressor(options=_UNZSTD)
        elif self.coding == "br":
            self._engine = _BrotliEngine()
        elif self.coding == "gzip":
            self._engine = zlib.decompressobj(31)
        else:
            # Some servers send RFC 1951, without zlib's header. That has 8 in its low bits (RFC 1950 §2.2), which in
            # raw deflate would be a stored block after padding that is not zero: no compressor writes that.
            self._engine = zlib.decompressobj(15 if data[0] & 0x0F == 8 else -15)
        return data

    def _corrupt(self, reason: object) -> DecodeError:
        return DecodeError(f"the bytes are not {self.coding}: {reason}")


class _BrotliEngine:
    """Brotli's decompressor, with the methods of those of zlib and zstd."""

    unused_data = b""  # brotli itself raises for more bytes after the end

    def __init__(self) -> None:
        self._engine = brotli.Decompressor()
        self.eof = False

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out: bytes = self._engine.process(data, output_buffer_limit=max_length)
        self.eof = self._engine.is_finished()
        return out


def _up_to_the_defect(engine: Any, data: bytes) -> Iterator[bytes]:
    """Yield zlib's output up to a defect, byte by byte, so that it does not depend on the split."""
    with suppress(zlib.error):
        yield from map(engine.decompress, (b"", *_parts(data, 1)))  # first the output that it still holds


def _parts(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))
