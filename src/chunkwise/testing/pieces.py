"""The bytes of a stream -> the same bytes in pieces, or damaged. Random choices are the same in every run."""

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

_MOST_CUTS = 1000
_BYTES_OF_DAMAGE = 100_000  # of all damaged streams together, because they are fed byte by byte
_ODD = [
    b"\n", b"\r\n", b"\n\n", b" ", b"\x00", b"\x1e", b'"', b"[", b"]", b"{", b"}", b",", b":", b"\\", b"\xff", b"\xc3",
    b"\xef\xbb\xbf", b"0", b"-",
]  # fmt: skip


def bytewise(data: bytes) -> list[bytes]:
    """Return the bytes one by one."""
    return [data[index : index + 1] for index in range(len(data))]


def splits(data: bytes) -> Iterator[list[bytes]]:
    """Yield the data in one piece, byte by byte, cut in two at every place, and in random pieces."""
    yield [data]
    yield bytewise(data)
    for cut in some(range(1, len(data))):
        yield [data[:cut], data[cut:]]
    dice = random.Random(3)  # noqa: S311
    for _ in range(50):
        cuts = sorted(dice.choices(range(len(data) + 1), k=dice.randint(2, 8)))
        yield [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]


def some(places: range) -> Sequence[int]:
    """Return all places, or a sample if there are too many to test."""
    if len(places) <= _MOST_CUTS:
        return places
    return sorted(random.Random(4).sample(places, _MOST_CUTS))  # noqa: S311


def damaged(stream: bytes) -> Iterator[bytes]:
    """Yield a stream with bytes inserted, removed or replaced, once or twice."""
    dice = random.Random(2)  # noqa: S311
    for _ in range(min(400, 10 + _BYTES_OF_DAMAGE // (len(stream) + 1))):
        data = stream
        for _ in range(dice.randint(1, 2)):
            start = dice.randint(0, len(data))
            put = dice.choice([b"", dice.choice(_ODD), dice.randbytes(dice.randint(1, 2))])
            data = data[:start] + put + data[start + dice.randint(0, 2) :]
        yield data


def strange() -> Iterator[bytes]:
    """Yield random bytes, which usually are not a stream of any format."""
    dice = random.Random(1)  # noqa: S311
    for _ in range(300):
        yield dice.randbytes(dice.randint(1, 40))
        yield b"".join(dice.choices(_ODD, k=dice.randint(1, 8)))
