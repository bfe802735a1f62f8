"""The documentation and the source that the demo serves, in a clone and from a wheel."""

import ast
from collections.abc import AsyncIterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_asyncio
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

import chunkwise
from chunkwise.demo import reading
from chunkwise.demo.app import make_app
from tests.html_links import links_of

PACKAGE = Path(chunkwise.__file__).parent


@pytest_asyncio.fixture
async def client() -> AsyncIterator[TestClient[web.Request, web.Application]]:
    async with TestClient(TestServer(make_app())) as opened:
        yield opened


async def plain_text(response: ClientResponse) -> str:
    """Return the text of a response that a browser shows as it is."""
    assert (response.status, response.content_type) == (200, "text/plain")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    return await response.text()


@pytest.mark.parametrize("folder", ["docs", "source"])
async def test_list_links_to_every_page(folder: str, client: TestClient[web.Request, web.Application]) -> None:
    async with client.get(f"/{folder}/") as response:
        assert response.content_type == "text/html"
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        links = [link for link in links_of(await response.text()) if not link.startswith("../")]
    assert len(links) > 1
    for link in links:
        async with client.get(f"/{folder}/{link}") as response:
            assert await plain_text(response)


async def test_source_is_the_installed_one(client: TestClient[web.Request, web.Application]) -> None:
    async with client.get("/source/demo/endpoints.py") as response:
        assert await plain_text(response) == (PACKAGE / "demo" / "endpoints.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("lane", reading.LANES)
async def test_code_of_a_lane_is_a_complete_program(
    lane: str, client: TestClient[web.Request, web.Application], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client.get(f"/code/{lane}") as response:
        code = await plain_text(response)
    apps: list[web.Application] = []
    monkeypatch.setattr(web, "run_app", apps.append)
    exec(compile(code, lane, "exec"), {})
    path = f"/{lane}?items=2&interval=0"
    async with TestClient(TestServer(apps[0])) as copied, copied.get(path) as expected, client.get(path) as response:
        assert (expected.status, await expected.read()) == (200, await response.read())


@pytest.mark.parametrize("lane", reading.LANES)
def test_code_of_a_lane_imports_only_what_it_uses(lane: str) -> None:
    program = ast.parse(reading.code_of(lane))
    imported = {
        alias.name
        for node in ast.walk(program)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    used = {node.id for node in ast.walk(program) if isinstance(node, ast.Name)}
    assert imported - used == set()


@pytest.mark.parametrize(
    "path", ["/source/../pyproject.toml", "/source/demo", "/docs/../README.md", "/docs/x.md", "/code/", "/code/upper"]
)
async def test_other_paths_are_not_found(path: str, client: TestClient[web.Request, web.Application]) -> None:
    async with client.get(f"/{quote(path[1:], safe='/')}".replace("..", "%2e%2e")) as response:
        assert response.status == 404


async def test_wheel_has_the_readme_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reading, "_CLONE", tmp_path)
    async with TestClient(TestServer(make_app())) as client:
        async with client.get("/docs/") as response:
            links = links_of(await response.text())
        assert [link for link in links if not link.startswith("../")] == ["README.md"]
        async with client.get("/docs/README.md") as response:
            assert (await plain_text(response)).startswith("# chunkwise")


async def test_uninstalled_package_has_its_docstring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def not_installed(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(reading, "_CLONE", tmp_path)
    monkeypatch.setattr(reading, "metadata", not_installed)
    async with TestClient(TestServer(make_app())) as client, client.get("/docs/README.md") as response:
        assert await plain_text(response) == chunkwise.__doc__
