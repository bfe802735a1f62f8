"""Compress and decompress the chunks of a body with a content coding: zstd, gzip, br or deflate (RFC 9110 §8.4.1).

A limit for the decompressed bytes protects against decompression bombs.
"""

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
"""The content codings that a server may send, the preferred one first: zstd is fastest, br needs the most memory."""

MAX_RATIO = 10_000
"""How many bytes one compressed byte may become. Equal rows from `respond` reach 3,400, a brotli bomb 112,000."""

# Decompressed bytes are joined to chunks of this size, so that each chunk holds many items.
_PIECE_BYTES = 64 * 1024
# In one call, a decompressor is asked for no more output than this. Brotli may return 1.5 times as much.
_STEP_BYTES = 64 * 1024
# In one call, a decompressor gets no more compressed bytes than this, so that a decompression bomb is noticed early.
_WIRE_BYTES = 4 * 1024
# The br and zstd decompressors get even fewer bytes in one call, because an error loses all output of the call.
_FINE_BYTES = 64
# A message may have no more codings than this, as in curl. Each coding needs memory, and real servers use at most two.
_MAX_CODINGS = 5

# A zstd decompressor needs memory for the whole window of the data. RFC 9659 limits this window to 8 MiB (2**23 bytes),
# so the decompressor refuses data with a larger window.
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
    """Compresses bytes with one of the `CODINGS`. A client can decompress each chunk when it arrives."""

    # The compression levels are low because streams are compressed on the event loop, once per client, and higher
    # levels take much more time to save few bytes. The windows (the recent data that a compressor keeps in memory, to
    # find repetitions) are small because a server may have hundreds of streams at once.
    # After 1.2 MB of JSON rows, one compressor used 169 KiB of memory (zstd), 115 KiB (gzip, deflate) or 423 KiB (br).
    # The file movies.json (vega-datasets) becomes 6.0 times smaller with zstd. With level 3 and a window of 512 KiB, it
    # would become 7.0 times smaller, but zstd would use 1,338 KiB of memory. With a flush after each row, the file
    # becomes 4.3 times smaller with zstd and 5.2 times with gzip.

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
            # RFC 9110 §8.4.1.2: the content coding "deflate" is the zlib format (RFC 1950), not raw deflate (RFC 1951).
            engine, mode = zlib.compressobj(6, wbits=30 if coding == "gzip" else 14, memLevel=7), zlib.Z_SYNC_FLUSH
        self._compress, self._flush, self._finish = engine.compress, partial(engine.flush, mode), engine.flush

    def piece(self, data: bytes) -> bytes:
        """Return ``data`` compressed and flushed, so that a client can decompress all of it at once.

        Return ``b""`` if ``data`` is empty.
        """
        return bytes(self._compress(data) + self._flush()) if data else b""

    def finish(self, data: bytes = b"") -> bytes:
        """Return the compressed bytes of ``data``, then the end of the compressed stream."""
        return bytes(self._compress(data) + self._finish())


class Decompressor:
    """Decompresses the body of a message with a Content-Encoding header, and checks that the body is complete.

    Args:
        content_encoding: the value of the header.
        max_ratio: how many bytes each coding may output, at most, for each compressed byte that was received.
        free_bytes: how many bytes each coding may output at any ratio. Only a larger output can raise LimitError.

    Raises:
        DecodeError: a coding is unknown.
        LimitError: the header names more than five codings.
    """

    def __init__(self, content_encoding: str, *, max_ratio: int = MAX_RATIO, free_bytes: int = 1024 * 1024) -> None:
        names = codings_of(content_encoding)
        for name in names:
            if name not in (*CODINGS, "x-gzip"):
                raise DecodeError(f"unknown content coding {name!r}, expected one of {', '.join(CODINGS)}")
        if len(names) > _MAX_CODINGS:
            raise LimitError(f"got {len(names)} content codings, expected no more than {_MAX_CODINGS}")
        self._layers = [_Layer(name) for name in reversed(names)]
        self._max_ratio = max_ratio
        self._free_bytes = free_bytes
        self._wire_bytes = 0
        self._bytes_given = 0
        self._failure: DecodeError | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed data in chunks of less than 256 KiB.

        Read all chunks before the next call, because ``data`` is decompressed only while the chunks are read.

        Raises:
            DecodeError: the data is malformed. The output before the defect has been yielded, but with br and zstd the
                last bytes of it may be missing.
            LimitError: a coding output more than ``max_ratio`` allows. The output before that has been yielded.
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
        """Raise TruncatedError if the compressed data is incomplete; a body of zero bytes counts as complete."""
        if self._failure is not None:
            raise self._failure
        for layer in self._layers:
            if self._wire_bytes and not layer.whole:
                msg = f"the {layer.coding} data is incomplete: it stopped after {self._wire_bytes} compressed bytes"
                raise TruncatedError(msg, bytes_seen=self._bytes_given)

    def _undone(self, data: bytes, index: int) -> Iterator[bytes]:
        """Yield ``data`` decompressed by the layer ``index`` and all layers after it. Each layer removes one coding."""
        if index == len(self._layers):
            yield data
            return
        layer = self._layers[index]
        for out in layer.feed(data):
            # The ratio is checked after each coding, not only after the last one, because a coding may produce many
            # bytes that the next coding ignores, such as zero bytes after a gzip member.
            layer.bytes_given += len(out)
            if layer.bytes_given > max(self._free_bytes, self._max_ratio * self._wire_bytes):
                raise LimitError(
                    f"{self._wire_bytes} compressed bytes became {layer.bytes_given} bytes (coding {layer.coding}), "
                    f"expected no more than {self._max_ratio} for each compressed byte (max_ratio)"
                )
            yield from self._undone(out, index + 1)


class _Layer:
    """Decompresses one content coding with an engine, which is a decompressor of zlib, brotli or zstd.

    Each gzip member and each zstd frame gets a new engine.
    """

    def __init__(self, coding: str) -> None:
        self.coding = coding.removeprefix("x-")  # x-gzip means gzip (RFC 9110 §8.4.1.3)
        self.bytes_given = 0
        self.whole = False  # True if the compressed data that was received so far is complete
        self._engine: Any = None
        self._copies = coding not in ("br", "zstd")
        # If a call of the engine (the decompressor) returns at least this many bytes, the engine may hold more output
        # and is called again. Brotli is called again until it returns nothing: it may return only 32 KiB and hold more,
        # even if its `can_accept_more_data` is true.
        self._full = 1 if coding == "br" else _STEP_BYTES

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the output for ``data`` in chunks of about 64 KiB; raise DecodeError if ``data`` is malformed."""
        # If decompress() raises an error, the output of that call is lost. So a zlib decompressor is copied before each
        # call. After an error, the copy decompresses the same bytes one by one, up to the defect. The brotli and zstd
        # decompressors have no copy(), so each call gets few bytes: then an error loses little output.
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
        """Create the decompressor for the next gzip member or zstd frame.

        Return ``data`` without the zero bytes that may precede a gzip member as padding.
        """
        if self.whole and self.coding == "gzip":
            # Like the gzip program, ignore zero bytes after a gzip member.
            data = data.lstrip(b"\0")
        if self.whole and data and not (self.coding == "zstd" or (self.coding == "gzip" and data[0] == 0x1F)):
            raise self._corrupt("got more bytes after the end of the data, expected none")
        if not data:
            return data
        if self.coding == "zstd":
            self._engine = zstd.ZstdDecompressor(options=_UNZSTD)
        elif self.coding == "br":
            self._engine = _BrotliEngine()
        elif self.coding == "gzip":
            self._engine = zlib.decompressobj(31)
        else:
            # For "deflate", some servers send raw deflate (RFC 1951), without zlib's header. The low four bits of the
            # first byte show whether the header is there: in zlib's header they are 8 (RFC 1950 §2.2). In raw deflate,
            # an 8 would start a stored block with nonzero padding, which no compressor writes.
            self._engine = zlib.decompressobj(15 if data[0] & 0x0F == 8 else -15)
        return data

    def _corrupt(self, reason: object) -> DecodeError:
        return DecodeError(f"malformed {self.coding} data: {reason}")


class _BrotliEngine:
    """Brotli's decompressor with the interface of the zlib and zstd decompressors."""

    # The decompressors of zlib and zstd store in `unused_data` the bytes after the end of the compressed data. Brotli
    # raises an error for such bytes, so the attribute stays empty.
    unused_data = b""

    def __init__(self) -> None:
        self._engine = brotli.Decompressor()
        self.eof = False

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out: bytes = self._engine.process(data, output_buffer_limit=max_length)
        self.eof = self._engine.is_finished()
        return out


def _up_to_the_defect(engine: Any, data: bytes) -> Iterator[bytes]:
    """Decompress malformed ``data`` byte by byte with zlib, and yield all output before the first malformed byte."""
    with suppress(zlib.error):
        # The first call, with b"", gets the output that the decompressor already holds.
        yield from map(engine.decompress, (b"", *_parts(data, 1)))


def _parts(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))
