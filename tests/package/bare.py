"""A check of chunkwise installed without extras: `python bare.py [compiled|pure]`.

The script needs only chunkwise and its dependencies, but no source tree. It prints one line, or fails.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

from aiohttp import ClientSession, web

import chunkwise
from chunkwise.formats.speedups import KIND

ROWS = [{"n": "1", "name": "Tom"}, {"n": "2", "name": "Adam"}]
EXTRAS = {"cli": "rich_click", "sql": "sqlalchemy"}


def make_app() -> web.Application:
    routes = web.RouteTableDef()

    @routes.route("*", "/rows")
    @chunkwise.streaming
    async def rows(request: web.Request) -> AsyncIterator[dict[str, str]]:
        for row in ROWS:
            yield row

    @routes.post("/upload")
    async def upload(request: web.Request) -> web.Response:
        return web.json_response([row async for row in chunkwise.items(request)])

    app = web.Application()
    app.add_routes(routes)
    chunkwise.setup(app)
    return app


async def talk() -> None:
    """Receive every format over HTTP and one over a WebSocket, and send every format."""
    runner = web.AppRunner(make_app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    _, port = runner.addresses[0][:2]
    base = f"127.0.0.1:{port}"
    try:
        async with ClientSession() as session:
            for name in ("json", "ndjson", "json-seq", "sse", "csv"):
                async with chunkwise.open_stream(session, f"http://{base}/rows", format=name) as stream:
                    got = [row async for row in stream]
                assert got == ROWS, (name, got)
                async with session.post(f"http://{base}/upload", data=chunkwise.body(ROWS, name)) as response:
                    assert await response.json() == ROWS, name
            async with chunkwise.open_stream(session, f"ws://{base}/rows") as stream:
                assert [row async for row in stream] == ROWS
                assert stream.end is None or stream.end == "proven"
    finally:
        await runner.cleanup()


def is_missing(module: str) -> bool:
    try:
        __import__(module)
    except ModuleNotFoundError:
        return True
    return False


def told_without_extras() -> list[str]:
    """Return the error message for each missing extra."""
    told = []
    if is_missing(EXTRAS["sql"]):
        try:
            from chunkwise.sources import sql  # noqa: F401
        except ModuleNotFoundError as error:
            told.append(str(error))
    if is_missing(EXTRAS["cli"]):
        done = subprocess.run(
            [sys.executable, "-m", "chunkwise", "--version"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, done
        assert done.stdout == ""
        told.append(done.stderr.strip())
    for sentence in told:
        assert "\n" not in sentence, sentence
        assert " the extra '" in sentence, sentence
        assert "pip install 'chunkwise[" in sentence, sentence
    return told


if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) > 1 else KIND
    assert wanted == KIND, f"the code in use is {KIND}, expected {wanted}"
    asyncio.run(talk())
    missing = told_without_extras()
    print(f"chunkwise works, {KIND}, from {chunkwise.__path__[0]}; {len(missing)} extras are missing, and said so")
