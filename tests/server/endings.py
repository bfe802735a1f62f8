"""Sources that end or fail, and a reader that returns the raw bytes and how the connection ended."""

import asyncio
import ssl
from collections.abc import AsyncIterator

from tests.flow.producing import GUARD_SECONDS


async def rows() -> AsyncIterator[dict[str, int]]:
    for n in range(5):
        yield {"n": n}
        await asyncio.sleep(0.01)


async def failing() -> AsyncIterator[dict[str, int]]:
    async for row in rows():
        yield row
    raise RuntimeError


async def ending(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """Read to the end; return the bytes, and how the connection ended."""
    came = b""
    try:
        async with asyncio.timeout(GUARD_SECONDS):
            while data := await reader.read(65536):
                came += data
    except TimeoutError:
        return came, "open"
    except (ConnectionError, ssl.SSLError):
        return came, "reset"
    return came, "closed"
