"""transports/negotiation.py: the format that the client prefers, or a refusal that lists the formats."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.pytest_plugin import AiohttpServer
from multidict import CIMultiDict

import chunkwise
from chunkwise import respond
from chunkwise.errors import UnknownFormat
from chunkwise.formats import FORMATS
from chunkwise.transports.negotiation import FormatChoice, negotiate, negotiate_coding, offered, parse_accept, prefers
from tests.each_row import each_row
from tests.transports.wire import serving, url_of

CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

ALL = list(FORMATS)

CASES: list[tuple[str, str | None]] = [
    # anything
    ("*/*", "json"),
    (CHROME, "json"),
    (FIREFOX, "json"),
    ("*/*;q=0.1", "json"),
    # one type, its aliases, its case, its parameters
    *((media_type, row.name) for row in FORMATS.values() for media_type in row.media_types),
    ("Text/CSV", "csv"),
    ("text/csv; header=present", "csv"),
    ("application/json; charset=utf-8; q=0.5", "json"),
    ("text/event-stream", "sse"),  # EventSource
    # quality
    ("application/json;q=0.5, text/csv", "csv"),
    ("application/json;q=0.5, text/csv;q=0.4", "json"),
    ("text/csv;q=0.001, application/json;q=0", "csv"),
    ("text/csv;Q=0.2,application/x-ndjson;q=0.3", "ndjson"),
    ("text/csv ; q = 0.2 , application/x-ndjson ; q=0.3", "ndjson"),
    ("application/json;q=1.000,text/csv;q=0.999", "json"),
    # the most specific range decides about a type, in any position
    ("text/*;q=0.9, text/csv;q=0.1, application/json;q=0.5", "sse"),
    ("*/*;q=0.1, text/csv", "csv"),
    ("text/csv, */*", "csv"),  # the same weight as others, but named
    ("*/*, text/csv", "csv"),
    ("*/*;q=0.5, application/json;q=0.1", "ndjson"),
    # refusals
    ("application/json;q=0, */*", "ndjson"),
    ("application/json;q=0, application/x-ndjson;q=0, application/json-seq;q=0, */*;q=0.1", "sse"),
    ("*/*;q=0", None),
    ("text/csv;q=0", None),
    ("text/csv;q=0.0, text/plain;q=0.000", None),
    ("image/png", None),
    ("application/vnd.api+json", None),
    # a range such as text/* matches the type that is sent, not an alias
    ("text/*", "sse"),
    ("application/*", "json"),
    ("application/*;q=0.1, text/*;q=0.2", "sse"),
    # quoted strings are ignored
    ('text/plain;q=0.9;title="a, text/csv, b", application/json;q=0.5', "text"),
    ('text/plain;title="a;q=0", application/json;q=0.5', "text"),
    (r'text/plain;q=0.9;title="\", text/csv, b", application/json;q=0.5', "text"),
    # malformed elements are ignored
    ("application, text/csv", "csv"),
    ('text/csv;q=0.1, text/plain;q=0.05;title="a, application/json', "csv"),
    ("/, */json, ;q=1, text/csv;q=0.1", "csv"),
    (",,text/csv,,", "csv"),
    ("text/csv;q=2, application/json;q=0.1", "json"),
    ("text/csv;q=high, application/json;q=0.1", "json"),
    ("text/csv;q=0.1234, application/json;q=0.1", "json"),
    ("text/csv;q=-1, application/json;q=0.1", "json"),
    ("text/csv;q=, application/json;q=0.1", "json"),
    ("text/csv;q=nan, application/json;q=inf, text/plain;q=0.1", "text"),
    ("text/csv;q=１, application/json;q=0.1", "json"),
    ("text/csv;q=0.٣, application/json;q=0.1", "json"),
]


@each_row(("accept", "expected"), CASES)
def test_client_gets_the_format_it_prefers(accept: str, expected: str | None) -> None:
    chosen = negotiate([accept], offered(None))
    assert (chosen.name if chosen else None) == expected


def test_without_accept_the_first_format_is_sent() -> None:
    assert negotiate([], offered(None)) is FORMATS["json"]
    assert negotiate([], offered(["csv", "json"])) is FORMATS["csv"]


def test_several_accept_headers_are_joined() -> None:
    chosen = negotiate(["application/json;q=0.1", "text/csv;q=0.2", "text/plain;q=0.15"], offered(None))
    assert chosen is FORMATS["csv"]


def test_only_an_offered_format_is_chosen() -> None:
    assert negotiate(["application/json, text/csv;q=0.1"], offered(["csv", "ndjson"])) is FORMATS["csv"]
    assert negotiate(["*/*"], offered(["csv", "ndjson"])) is FORMATS["csv"]
    assert negotiate(["application/json"], offered(["csv", "ndjson"])) is None


CODING_CASES: list[tuple[list[str], str | None]] = [
    # a client without Accept-Encoding may not know any coding
    ([], "identity"),
    ([""], "identity"),
    (["compress"], "identity"),
    # a named coding is preferred to none, with any weight; with equal weights, the server's preference decides
    (["br;q=0.001"], "br"),
    (["deflate, gzip, br"], "gzip"),
    (["gzip;q=0.5, br"], "br"),
    (["gzip;q=0.5", "br;q=0.4"], "gzip"),
    (["GZip"], "gzip"),
    (["x-gzip"], "gzip"),  # RFC 9110 §8.4.1.3
    (["gzip;q=0.5, identity"], "identity"),
    (["*"], "zstd"),
    (["*;q=0.5, br"], "br"),
    (["*;q=0.5, identity"], "identity"),
    # refusals
    (["gzip;q=0"], "identity"),
    (["zstd;q=0, *"], "gzip"),
    (["*;q=0, br"], "br"),
    (["*;q=0, identity"], "identity"),
    (["*;q=0"], None),
    (["identity;q=0, compress"], None),
]


@each_row(("accept_encoding", "expected"), CODING_CASES)
def test_client_gets_the_coding_it_prefers(accept_encoding: list[str], expected: str | None) -> None:
    assert negotiate_coding(accept_encoding, ["zstd", "gzip", "br"]) == expected


def test_preference_is_found_only_by_its_name() -> None:
    for asked in ("stream-end", "a=1;b, Stream-End ;c=2", "stream-end=yes", 'a="x", stream-end', r'a="\"", stream-end'):
        assert prefers([asked], "stream-end")
    for other in (
        "",
        "stream",
        "x-stream-end",
        "a=stream-end",
        'a="b, stream-end, c"',
        r'a="\", stream-end, c"',
        "a;stream-end",
    ):
        assert not prefers([other], "stream-end")
    assert prefers(["a=1", "stream-end"], "stream-end")


def test_media_ranges_have_their_weights() -> None:
    ranges = parse_accept(("text/csv;q=0.5;x=y, */*", "application/json"))
    assert [(found.type, found.subtype, found.quality) for found in ranges] == [
        ("text", "csv", 0.5),
        ("*", "*", 1.0),
        ("application", "json", 1.0),
    ]


def test_formats_can_be_names_or_objects() -> None:
    assert offered(None) == list(FORMATS.values())
    assert offered("csv") == [FORMATS["csv"]]
    assert offered(FORMATS["csv"]) == [FORMATS["csv"]]
    assert offered(["csv", FORMATS["json"]]) == [FORMATS["csv"], FORMATS["json"]]


@pytest.mark.parametrize("choice", ["xml", ["json", "xml"], []])
def test_unknown_format_is_refused_by_name(choice: Any) -> None:
    with pytest.raises(UnknownFormat, match="at least one" if choice == [] else "'xml', expected one of json, ndjson"):
        offered(choice)


async def answered(
    server: AiohttpServer, choice: FormatChoice, accept: list[str], method: str = "GET"
) -> tuple[int, str, str | None, Any]:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await respond(request, ({"n": "1"} for _ in range(1)), choice)

    app = web.Application()
    app.router.add_route("*", "/", handler)
    running = await server(app)
    headers = CIMultiDict([("Accept", value) for value in accept])
    async with (
        ClientSession(skip_auto_headers=["Accept"]) as session,
        session.request(method, running.make_url("/"), headers=headers) as response,
    ):
        told = await response.json(content_type=None) if response.status != 200 and method == "GET" else None
        return response.status, response.content_type, response.headers.get("Vary"), told


async def test_vary_lists_the_headers_that_decided(aiohttp_server: AiohttpServer) -> None:
    both = "Accept, Accept-Encoding"
    assert await answered(aiohttp_server, None, ["text/csv"]) == (200, "text/csv", both, None)
    assert await answered(aiohttp_server, ["json", "csv"], []) == (200, "application/json", both, None)
    assert await answered(aiohttp_server, "json", []) == (200, "application/json", "Accept-Encoding", None)
    vary = "Accept-Encoding, Prefer"  # the response depends on Prefer, which may ask for an end record
    assert await answered(aiohttp_server, "ndjson", []) == (200, "application/x-ndjson", vary, None)


async def test_single_format_is_sent_to_any_client(aiohttp_server: AiohttpServer) -> None:
    assert (await answered(aiohttp_server, "csv", ["application/json"]))[:2] == (200, "text/csv")
    assert (await answered(aiohttp_server, FORMATS["sse"], ["image/png"]))[:2] == (200, "text/event-stream")


async def test_server_joins_several_accept_headers(aiohttp_server: AiohttpServer) -> None:
    accept = ["application/json;q=0.1", "text/csv"]
    assert (await answered(aiohttp_server, None, accept))[:2] == (200, "text/csv")


async def test_refusal_lists_the_available_formats(aiohttp_server: AiohttpServer) -> None:
    status, content_type, vary, told = await answered(aiohttp_server, ["json", "csv"], ["image/png", "text/html"])
    assert (status, content_type, vary) == (406, "application/problem+json", "Accept")
    assert told == {
        "title": "Not Acceptable",
        "status": 406,
        "detail": "Accept: got image/png, text/html, expected one of application/json, text/csv",
        "available": ["application/json", "text/csv"],
    }


async def test_head_is_refused_like_get(aiohttp_server: AiohttpServer) -> None:
    assert (await answered(aiohttp_server, None, ["image/png"], "HEAD"))[0] == 406


@pytest.mark.parametrize("header", ["", ",", "nonsense", "*/json"])
def test_malformed_accept_allows_any_format(header: str) -> None:
    assert negotiate([header], list(FORMATS.values())) is FORMATS["json"]


async def two() -> AsyncIterator[int]:
    yield 1
    yield 2


async def test_document_is_not_offered_as_csv() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, {"users": two()})

    async with (
        serving(handler) as port,
        ClientSession() as session,
        session.get(url_of(port), headers={"Accept": "text/csv"}) as response,
    ):
        assert response.status == 406
        assert "text/csv" not in (await response.json(content_type=None))["available"]


@pytest.mark.parametrize(("accept", "status"), [("text/csv", 200), ("image/png", 406)])
async def test_list_of_one_format_is_negotiated(accept: str, status: int) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await chunkwise.respond(request, iter([{"n": 1}]), ["csv"])

    async with (
        serving(handler) as port,
        ClientSession() as session,
        session.get(url_of(port), headers={"Accept": accept}) as response,
    ):
        assert (response.status, response.headers["Vary"].split(", ")[0]) == (status, "Accept")
