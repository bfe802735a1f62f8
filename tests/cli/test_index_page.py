"""The index of `chunkwise serve`: a page for browsers, JSON for others, and the files that are not served."""

import html
import json
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urljoin

import pytest
from aiohttp.test_utils import TestClient, TestServer

from chunkwise import Batches
from chunkwise.cli.publishing import MAX_UNPUBLISHED, Unpublished, find_files, find_unpublished
from chunkwise.cli.rows import PublishedRows
from chunkwise.cli.serve import make_app
from tests.cli.running import Serving, curl, folder_of, run_any, serving
from tests.html_links import links_of
from tests.needs import needs_chromium, needs_curl, needs_linux
from tests.transports.browsing import browser_page

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
ODD_NAMES = [
    "plain.json",
    "with two spaces.json",
    'say "quoted".json',
    "it's.json",
    "<b>bold<.json",
    "a&amp;b&c.json",
    "ünïcödé 日本.json",
    "100%.json",
    "%41.json",
    "A.json",
    "#hash.json",
    "what?format=csv.json",
    "plus+plus.json",
    "semi;colon.json",
    "[1-3]{a,b}.json",
    "back\\slash.json",
    "back/slash.json",
    "new\nline.json",
    "..json.json",
    "UPPER.JSON",
    os.fsdecode(b"\xff not unicode.json"),
]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    names = [name for name in ODD_NAMES if not name.startswith(".")]
    folder = folder_of(
        tmp_path_factory.mktemp("odd"), {name: json.dumps([name.encode(errors="replace").decode()]) for name in names}
    )
    with serving(folder) as running:
        yield running
        assert not running.running.err


@needs_curl
def test_links_work_for_any_file_name(odd: Serving) -> None:
    got = curl(odd.url("/"), "-H", f"Accept: {BROWSER}", "-w", "%{stderr}%{content_type}")
    assert got.err == "text/html; charset=utf-8"
    links = [urljoin(odd.url("/"), link) for link in links_of(got.out.decode())]
    plain = [link for link in links if "?format=" not in link]
    contents = [json.loads(curl(link).out)[0] for link in plain]
    assert sorted(contents) == sorted(
        name.encode(errors="replace").decode() for name in ODD_NAMES if not name.startswith(".")
    )
    assert len(links) == 6 * len(plain)
    command = html.unescape(re.findall(r'<pre class="example">(.*?)</pre>', got.out.decode())[0])
    assert run_any("sh", "-c", command.replace("interval=0.2", "interval=0")).out
    for link in plain:
        assert json.loads(curl(f"{link}?format=ndjson").out) == json.loads(curl(link).out)[0]
    assert [link for link in links if link.endswith("?format=ndjson")] == [f"{link}?format=ndjson" for link in plain]


@needs_curl
@pytest.mark.parametrize("accept", ["*/*", "application/json", "image/png"])
def test_other_clients_get_the_index_as_json(odd: Serving, accept: str) -> None:
    got = curl(odd.url("/"), "-H", f"Accept: {accept}", "-w", "%{stderr}%{content_type}")
    assert got.err.partition(";")[0] == "application/json"
    entries = json.loads(got.out)
    page = curl(odd.url("/"), "-H", "Accept: text/html").out.decode()
    assert [entry["url"] for entry in entries] == [link for link in links_of(page) if "?format=" not in link]
    for entry in entries:
        assert entry["bytes"] == len(curl(urljoin(odd.url("/"), entry["url"])).out)
        assert entry["format"] == "json"


async def page_of(folder: Path, rows: Sequence[PublishedRows] = ()) -> str:
    """Return the index of a folder as a browser gets it."""
    app = make_app(find_files([folder]), rows, find_unpublished([folder]))
    async with (
        TestClient(TestServer(app)) as client,
        client.get("/", headers={"Accept": BROWSER}) as response,
    ):
        assert response.content_type == "text/html"
        return await response.text()


@needs_linux
def test_files_without_a_route_have_a_reason(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "served",
        {"a.json": "[1]", "in/x.exe": "0", "Makefile": "0", "shop.DB": "0", ".env": "0", ".git/config": "0"},
    )
    folder_of(tmp_path, {"secret.json": "[0]"})
    (folder / "out.json").symlink_to(tmp_path / "secret.json")
    (folder / "gone.json").symlink_to(folder / "nothing.json")
    (folder / "loop.json").symlink_to(folder / "loop.json")
    os.mkfifo(folder / "pipe.json")
    assert find_unpublished([folder, folder / "a.json"]) == Unpublished(
        [
            ("Makefile", "its name has no suffix"),
            ("gone.json", "a link to a file that does not exist"),
            ("in/x.exe", "no format has the suffix .exe"),
            ("loop.json", "a link to a file that does not exist"),
            ("out.json", "a link to a place outside the folder"),
            ("pipe.json", "not a regular file"),
            ("shop.DB", "a database: name it as sqlite:///PATH to serve its tables"),
        ],
        hidden=2,
    )


def test_files_of_two_folders_may_have_the_same_name(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a/x.exe": "0", "b/x.exe": "0"})
    reason = "no format has the suffix .exe"
    assert find_unpublished([tmp_path / "a", tmp_path / "b"]) == Unpublished([("x.exe", reason), ("x.exe", reason)])


async def test_list_of_files_that_were_removed_is_bounded(tmp_path: Path) -> None:
    names = [f"{number:04}.json" for number in range(MAX_UNPUBLISHED + 3)]
    folder = folder_of(tmp_path, {"a.json": "[1]", **dict.fromkeys(names, "[]")})
    app = make_app(find_files([folder]))
    for name in names:
        (folder / name).unlink()
    async with TestClient(TestServer(app)) as client, client.get("/", headers={"Accept": "text/html"}) as response:
        page = await response.text()
    assert page.count("it no longer exists") == MAX_UNPUBLISHED
    assert "3 more files are not served" in page


async def test_page_lists_files_that_are_not_served(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a.json": "[1]", "<b>.exe": "0", ".env": "0"})
    page = await page_of(folder)
    assert "<td>&lt;b&gt;.exe</td><td>no format has the suffix .exe</td>" in page
    assert "Not served: 1 file<" in page
    assert "1 hidden file is not listed." in page
    assert ".env" not in page


async def test_page_without_such_files_has_no_list(tmp_path: Path) -> None:
    page = await page_of(folder_of(tmp_path, {"a.json": "[1]"}))
    assert "Not served" not in page
    assert "not served" not in page


async def test_list_of_files_not_served_is_bounded(tmp_path: Path) -> None:
    names = [f"{number:04}.exe" for number in range(MAX_UNPUBLISHED + 7)]
    folder = folder_of(tmp_path, {"a.json": "[1]", ".b": "", ".c": "", **dict.fromkeys(names, "0")})
    page = await page_of(folder)
    assert page.count("no format has the suffix .exe") == MAX_UNPUBLISHED
    assert "7 more files are not served for such reasons." in page
    assert f"Not served: {MAX_UNPUBLISHED + 7} files<" in page
    assert "2 hidden files are not listed." in page


@needs_linux
async def test_name_that_is_not_text_is_shown(tmp_path: Path) -> None:
    page = await page_of(folder_of(tmp_path, {"a.json": "[1]", os.fsdecode(b"\xff.\xfe"): "0"}))
    assert "<td>\ufffd.\ufffd</td><td>no format has the suffix .\ufffd</td>" in page


async def test_removed_file_is_no_longer_served(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a.json": "[1]", "b.json": "[2]"})
    published = find_files([folder])
    (folder / "b.json").unlink()
    async with TestClient(TestServer(make_app(published))) as client:
        async with client.get("/") as response:
            assert [entry["url"] for entry in await response.json()] == ["/a.json"]
        async with client.get("/", headers={"Accept": BROWSER}) as response:
            page = await response.text()
    assert links_of(page)[0] == "/a.json"
    assert "/b.json" not in links_of(page)
    assert "<td>b.json</td><td>it no longer exists</td>" in page


async def test_page_without_files_has_no_example(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a.json": "[1]"})
    app = make_app(find_files([folder]))
    (folder / "a.json").unlink()
    async with TestClient(TestServer(app)) as client, client.get("/", headers={"Accept": BROWSER}) as response:
        page = await response.text()
    assert "<td>a.json</td><td>it no longer exists</td>" in page
    assert 'class="example"' not in page


async def test_example_has_the_host_that_the_client_used(tmp_path: Path) -> None:
    app = make_app(find_files([folder_of(tmp_path, {"it's.json": "[1]"})]))
    headers = {"Accept": BROWSER, "Host": "<i>'$(x)\""}
    async with TestClient(TestServer(app)) as client, client.get("/", headers=headers) as response:
        page = await response.text()
    [escaped] = re.findall(r'<pre class="example">(.*?)</pre>', page)
    assert "<" not in escaped
    assert shlex.split(html.unescape(escaped)) == [
        "curl", "-N", "http://<i>'$(x)\"/it%27s.json?format=ndjson&interval=0.2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "database", "reason"),
    [
        (["in/shop.db"], "shop.db", "its tables are listed above"),
        (["in/shop.db"], "other.db", "name it as sqlite:///PATH to serve its tables"),
        (["in/shop.db", "shop.db"], "shop.db", "name it as sqlite:///PATH to serve its tables"),
    ],
)
async def test_served_database_says_where_its_tables_are(
    files: list[str], database: str, reason: str, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, {"a.json": "[1]", **dict.fromkeys(files, "")})
    rows = [PublishedRows("/products", {"table": "products", "database": database}, lambda _: Batches([]))]
    page = await page_of(folder, rows)
    assert page.count(f"a database: {reason}") == len(files)


async def test_json_lists_only_what_is_served(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a.json": "[1]", "b.exe": "0"})
    app = make_app(find_files([folder]), unpublished=find_unpublished([folder]))
    async with TestClient(TestServer(app)) as client, client.get("/") as response:
        [entry] = await response.json()
    assert entry.keys() == {"url", "format", "bytes", "modified"}


@needs_chromium
@pytest.mark.parametrize("width", [400, 1280])
async def test_page_has_its_style_under_its_policy(width: int, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"a.json": "[1]", f"{'long' * 30}.json": "[2]", f"{'x' * 90}.exe": "0"})
    app = make_app(find_files([folder]), unpublished=find_unpublished([folder]))
    async with TestServer(app, host="127.0.0.1") as server, browser_page() as page:
        logged: list[str] = []
        page.on("console", lambda message: logged.append(message.text))
        await page.set_viewport_size({"width": width, "height": 850})
        await page.goto(str(server.make_url("/")))
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground in {"rgb(246, 247, 248)", "rgb(18, 22, 26)"}
        assert await page.evaluate("document.documentElement.scrollWidth") == width
        assert await page.locator("h2").all_inner_texts() == ["Files", "Not served: 1 file"]
        assert not await page.get_by_text("no format has the suffix .exe").is_visible()
        await page.locator("summary").click()
        assert await page.get_by_text("no format has the suffix .exe").is_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") == width
        links = page.locator("td:last-child a")
        assert set(await links.evaluate_all("all => all.map((each) => getComputedStyle(each).padding)")) == {"12px"}
    assert logged == []
