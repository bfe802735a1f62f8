"""`chunkwise serve` with databases: the responses for tables and queries, which never write."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import rich_click as click

from chunkwise.cli import databases
from chunkwise.cli.databases import open_database
from chunkwise.cli.tables import find_rows
from tests.cli.databases import (
    PRODUCTS,
    QUERIES,
    TABLES,
    everywhere,
    fetch,
    in_postgres,
    published,
    serve_message,
    shop_in,
)
from tests.cli.running import Serving, curl, run, serving
from tests.cli.test_serve import problem, status_and_body
from tests.databases import Database, Postgres
from tests.each_row import each_row
from tests.needs import needs_curl, needs_postgres

pytestmark = needs_curl


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop_in(tmp_path_factory.mktemp("databases"))


@pytest.fixture(scope="module")
def server(shop: Path) -> Iterator[Serving]:
    words: list[object] = [f"sqlite:///{shop}"]
    for name in ("products", "pairs", "cheap", "odd/na me%"):
        words += ["--table", name]
    for name, query in QUERIES.items():
        words += ["--query", f"{name}={query}"]
    with serving(*words) as running:
        yield running


def test_named_tables_and_queries_have_routes(server: Serving) -> None:
    assert json.loads(curl(server.url("/products")).out) == PRODUCTS
    assert json.loads(curl(server.url("/pairs")).out) == []
    assert json.loads(curl(server.url("/cheap")).out) == PRODUCTS[:2]
    assert json.loads(curl(server.url("/odd/na%20me%25")).out) == []
    assert json.loads(curl(server.url("/under?max=3")).out) == PRODUCTS[:1]


def test_index_lists_tables_and_queries(server: Serving) -> None:
    entries = {entry["url"]: entry for entry in json.loads(curl(server.url("/")).out)}
    assert set(entries) == {"/products", "/pairs", "/cheap", "/odd/na%20me%25", *(f"/{name}" for name in QUERIES)}
    assert entries["/pairs"] == {"url": "/pairs", "table": "pairs", "database": "shop.db", "order": ["a", "b"]}
    assert entries["/under"] == {"url": "/under", "query": "under", "database": "shop.db", "parameters": ["max"]}
    page = curl(server.url("/"), "-H", "Accept: text/html").out.decode()
    for url in entries:
        assert f'<a href="{url}">{url}</a>' in page
    assert 'href="/under?max=...&amp;format=csv"' in page


def test_all_tables_are_served_by_default(shop: Path) -> None:
    with serving(f"sqlite:///{shop}") as running:
        urls = [entry["url"] for entry in json.loads(curl(running.url("/")).out)]
    assert sorted(urls) == ["/cheap", "/odd/na%20me%25", "/pairs", "/products"]


def test_query_option_replaces_the_tables(shop: Path) -> None:
    with serving(f"sqlite:///{shop}", "--query", "one=select 1 as n") as running:
        assert [entry["url"] for entry in json.loads(curl(running.url("/")).out)] == ["/one"]
        assert problem(status_and_body(running.url("/products")))["status"] == 404


@each_row("scheme", ["sqlite:///", "sqlite://", "sqlite:", "sqlite+aiosqlite:///"])
@each_row("name", ["shop.db", "odd ?#%41&name.db"])
def test_sqlite_url_can_be_spelled_in_many_ways(shop: Path, tmp_path: Path, scheme: str, name: str) -> None:
    (tmp_path / name).write_bytes(shop.read_bytes())
    with serving(f"{scheme}{name}", cwd=tmp_path) as running:
        assert json.loads(curl(running.url("/products")).out) == PRODUCTS
    assert [path.name for path in tmp_path.iterdir()] == [name]


# --- requests for tables


def test_client_selects_the_format_of_a_table(server: Serving) -> None:
    assert curl(server.url("/products?format=csv&limit=1")).out == b"id,name,price\r\n1,tea,2.5\r\n"
    assert (
        curl(server.url("/products"), "-H", "Accept: application/x-ndjson").lines[0]
        == b'{"id":1,"name":"tea","price":2.5}'
    )
    assert problem(status_and_body(server.url("/products?format=xml")))["status"] == 400
    assert problem(status_and_body(server.url("/products"), "-H", "Accept: image/png"))["status"] == 406


@pytest.mark.parametrize("route", ["/products", "/cheap"])
def test_limit_and_interval_work_for_tables(server: Serving, route: str) -> None:
    for limit, count in (("0", 0), ("1", 1), ("2", 2), ("9" * 18, len(json.loads(curl(server.url(route)).out)))):
        assert len(json.loads(curl(server.url(f"{route}?limit={limit}")).out)) == count
    assert json.loads(curl(server.url(f"{route}?interval=0.01&limit=2")).out) == PRODUCTS[:2]


@each_row(
    "query",
    [
        "limit=-1",
        "limit=1;drop",
        "limit=1%20or%201=1",
        "interval=x",
        "format='",
        "path=id",
        "order_by=id",
        "id=1",
        "table=x",
    ],
)
def test_unknown_parameters_are_rejected(server: Serving, query: str) -> None:
    assert problem(status_and_body(server.url(f"/products?{query}")))["status"] == 400


@each_row(
    "path",
    [
        "/nothing", "/PRODUCTS", "/products/", "/products;", "/products'", "/products%00", "/sqlite_schema",
        "/products%20where%201=1", "/products;drop%20table%20products", "/main.products", "/../products%2f..",
    ],
)  # fmt: skip
def test_unknown_table_is_not_found(server: Serving, path: str) -> None:
    details = problem(status_and_body(server.url(path), "--path-as-is"))
    assert details["status"] == 404


def test_client_resumes_table_after_its_last_key(server: Serving) -> None:
    headers = ["-H", "Range: items=1-", "-H", "Items-After: [1]"]
    for query in ("", "?interval=0.001", "?limit=9", "?limit=3&interval=0.001"):
        assert json.loads(curl(server.url(f"/products{query}"), *headers).out) == PRODUCTS[1:]
    for limit, rest in ((2, PRODUCTS[1:2]), (1, []), (0, [])):  # counted from the first row of the table
        assert json.loads(curl(server.url(f"/products?limit={limit}"), *headers).out) == rest
    headers = ["-H", "Range: items=1-", "-H", 'Items-After: ["2"]']
    assert json.loads(curl(server.url("/products"), *headers).out) == PRODUCTS[2:]
    for key in ('["x"]', '["1 or 1=1"]', "[1, 2]", "[null]", "[[1]]", '["1);drop table products"]'):
        got = status_and_body(server.url("/products"), "-H", "Range: items=1-", "-H", f"Items-After: {key}")
        assert problem(got)["status"] == 400


# --- parameters


def test_sqlite_parameter_compares_as_its_column(server: Serving) -> None:
    assert json.loads(curl(server.url("/under?max=7.5")).out) == PRODUCTS[:2]
    assert json.loads(curl(server.url("/under?max=30.0")).out) == PRODUCTS[:2]
    assert json.loads(curl(server.url("/named?name=it%27s")).out) == [{"id": 3}]


@pytest.mark.parametrize(
    "value", ["' or ''='", "'; drop table products; --", '" or ""="', ":name", "\\' or 1=1 --", "%"]
)
def test_parameter_that_looks_like_sql_is_a_value(server: Serving, shop: Path, value: str) -> None:
    before = shop.read_bytes()
    assert json.loads(curl(server.url(f"/named?name={quote(value)}")).out) == []
    assert shop.read_bytes() == before


@pytest.mark.parametrize("query", ["", "?name=a&name=b", "?max=3", "?name=a&max=3", "?Name=a"])
def test_missing_or_repeated_parameter_is_rejected(server: Serving, query: str) -> None:
    assert problem(status_and_body(server.url(f"/named{query}")))["status"] == 400


@in_postgres
async def test_postgresql_finds_types_of_parameters(database: Database) -> None:
    await database.run(
        "create type color as enum ('red', 'blue')",
        "create table t (i int, n numeric, d date, z timestamptz, u uuid, c color, t text, b bool, f float8)",
        "insert into t values (1, 1.50, '2024-02-29', '2024-02-29 12:00Z', "
        "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'red', '01', true, 0.5)",
    )
    values = {
        "i": ("1", "1.5"),
        "n": ("1.5", "x"),
        "d": ("2024-02-29", "2023-02-29"),
        "z": ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00"),
        "u": ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0"),
        "c": ("red", "'red'"),
        "t": ("01", None),
        "b": ("true", "maybe"),
        "f": ("0.5", "nan"),
    }
    queries = {f"by_{name}": f"select 1 as found from t where {name} = :value" for name in values}
    async with published(database, **queries) as (_, session):
        for name, (good, bad) in values.items():
            assert await fetch(session, f"/by_{name}?value={good}") == (200, [{"found": 1}]), name
            if bad is not None:
                status, details = await fetch(session, f"/by_{name}?value={bad}")
                assert status == 400, (name, details)
        status, details = await fetch(session, "/by_i?value=1.5")
        assert details["detail"] == "value: got '1.5', expected a whole number"
        assert (await fetch(session, "/by_t?value=%00"))[0] == 400
        assert (await fetch(session, "/by_i?value=2147483648"))[0] == 400


@in_postgres
async def test_value_rejected_by_database_is_a_400(database: Database) -> None:
    async with published(database, part="select 10 / cast(:by as integer) as n") as (_, session):
        assert await fetch(session, "/part?by=5") == (200, [{"n": 2}])
        status, details = await fetch(session, "/part?by=0")
        assert (status, details["detail"]) == (400, "the database rejects the parameters: division by zero")


@everywhere
async def test_two_columns_of_one_name_are_reported(database: Database) -> None:
    await database.run(*TABLES)
    async with published(database, twice="select 1 as n, 2 as n") as (_, session):
        status, details = await fetch(session, "/twice")
        assert status == 500
        assert details["detail"].startswith("the rows cannot be read: got two columns named 'n', expected unique names")


# --- nothing is ever written


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_only_reading_is_allowed(server: Serving, method: str) -> None:
    status, _ = status_and_body(server.url("/products"), "-X", method)
    assert status.startswith("405")


def test_writing_query_is_a_500_logged_in_one_line(server: Serving, shop: Path) -> None:
    before = shop.read_bytes()
    for name in ("delete", "insert"):
        details = problem(status_and_body(server.url(f"/{name}")))
        assert details["detail"] == "the rows cannot be read: attempt to write a readonly database"
        line = f"chunkwise: GET /{name}: 500: the rows cannot be read: attempt to write a readonly database\n"
        assert server.running.err.count(line) == 1
    assert "Traceback" not in server.running.err
    assert shop.read_bytes() == before


@in_postgres
async def test_example_values_match_parameter_types(database: Database) -> None:
    types = ["int", "numeric", "float8", "text", "bool", "date", "time", "timestamp", "timestamptz", "uuid", "bytea"]
    queries = {f"of_{name}": f"select cast(:value as {name}) is null as n" for name in types}
    async with published(database, **queries) as (_, session):
        opened = open_database(database.url)
        try:
            rows = await find_rows([opened], [], [f"{name}={query}" for name, query in queries.items()])
        finally:
            await opened.dispose()
        for entry in rows:
            assert await fetch(session, f"{entry.route}{entry.example}") == (200, [{"n": False}])


# --- wrong arguments


def test_wrong_table_and_query_options_exit_2(shop: Path) -> None:
    url = f"sqlite:///{shop}"
    assert serve_message(url, "--table", "nothing") == (
        2,
        f"Invalid value for --table: there is no table 'nothing' in {shop}",
    )
    assert serve_message(url, "--table", "products; drop table products")[0] == 2
    assert serve_message(url, "--query", "x")[0] == 2
    assert serve_message(url, "--query", "=select 1")[0] == 2
    assert serve_message(url, "--query", "x= ")[0] == 2
    assert serve_message(url, "--query", "x=selec 1") == (2, 'Invalid value for --query: x: near "selec": syntax error')
    assert serve_message(url, "--query", "x=select 1; delete from products")[0] == 2
    assert serve_message(url, "--query", "x=select :limit as n")[1] == (
        "Invalid value for --query: x: the parameter name :limit is reserved, choose another name"
    )
    assert serve_message(url, "--query", "a=select 1", "--query", "a=select 2")[0] == 2
    assert serve_message(url, url, "--query", "a=select 1")[0] == 2
    assert serve_message(url, url) == (
        2,
        "two tables or queries have the URL /cheap: select tables with --table, or rename the query",
    )
    assert serve_message("sqlite://")[0] == 2
    assert serve_message("sqlite:///:memory:")[0] == 2


@pytest.fixture
async def tables(database: Database) -> None:
    await database.run(*TABLES)


@everywhere
@pytest.mark.usefixtures("tables")
@each_row(
    ("query", "hint"),
    [
        ("select :day::date as d", "write CAST(:day AS date) instead of :day::date"),
        ("select id from products where name = :name and price > :low::float", "write CAST(:low AS float) instead of"),
        ("select ' :y' as u", r"write a colon inside a string or a comment as \:"),
        ("select 1 as n /* :y */", r"write a colon inside a string or a comment as \:"),
    ],
)
async def test_wrong_parameter_error_shows_right_spelling(database: Database, query: str, hint: str) -> None:
    with pytest.raises(click.BadParameter, match=re.escape(hint)):
        async with published(database, any=query):
            pass


@everywhere
async def test_parameter_in_driver_style_is_reported(database: Database) -> None:
    await database.run(*TABLES)
    query = "select cast($1 as text) as n" if database.kind == "postgresql" else "select ? as n"
    with pytest.raises(click.BadParameter, match="write a parameter as :name"):
        async with published(database, any=query):
            pass


@everywhere
async def test_other_colons_are_not_parameters(database: Database) -> None:
    await database.run(*TABLES)
    query = r"select '12:30' as a, ' \:y' as b, 'x::y' as c, CAST(:n AS integer) + 1 as d"
    async with published(database, any=query) as (_, session):
        assert (await fetch(session, "/any?n=1"))[1] == [{"a": "12:30", "b": " :y", "c": "x::y", "d": 2}]


def test_unusable_sqlite_file_has_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database, but long enough to be looked at " * 20)
    (tmp_path / "empty.db").write_bytes(b"")
    assert serve_message("sqlite:///nothing.db", cwd=tmp_path) == (10, "nothing.db: No such file or directory")
    assert serve_message(f"sqlite:///{tmp_path}")[0] == 10
    code, line = serve_message("sqlite:///text.db", cwd=tmp_path)
    assert (code, line) == (6, "text.db: file is not a database")
    code, line = serve_message("sqlite:///empty.db", cwd=tmp_path)
    assert (code, line) == (2, "nothing to publish: there are no tables in empty.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.db", "text.db"]


@each_row(
    "url",
    [
        "postgresql://user:s3cret@127.0.0.1:1/shop",
        "postgresql://user:s3cret@127.0.0.1:port/shop",
        "postgresql://user:s3cret@[::1/shop",
        "postgresql://user:s3cret@no.such.host.invalid/shop",
        "postgresql://user@127.0.0.1:1/shop?password=s3cret",
        "postgresql://user:s3cret@127.0.0.1:1/shop?nonsense=s3cret",
        "postgresql:/user:s3cret@127.0.0.1/shop",
        "postgres:user:s3cret@127.0.0.1/shop",
        "postgresql+psycopg://user:s3cret@127.0.0.1/shop",
        "mysql://user:s3cret@127.0.0.1/shop",
        "POSTGRESQL://user:s3cret@127.0.0.1:1/shop",
    ],
)
def test_no_error_shows_the_password(url: str) -> None:
    code, line = serve_message(url)
    assert code in (2, 3)
    assert "s3cret" not in line


@needs_postgres
def test_postgresql_refusal_is_one_line(postgres: Postgres) -> None:
    port = postgres.port
    good = quote("s3cret/@word", safe="")
    with serving(f"postgresql://guarded:{good}@127.0.0.1:{port}/postgres", "--query", "one=select 1 as n") as running:
        assert json.loads(curl(running.url("/one")).out) == [{"n": 1}]
        assert "s3cret" not in running.running.err
        assert "s3cret" not in curl(running.url("/")).out.decode()
        assert b"s3cret" not in running.running.stdout.readline()
    code, line = serve_message(f"postgresql://guarded:{good}x@127.0.0.1:{port}/postgres")
    why = 'password authentication failed for user "guarded"'
    assert (code, line) == (3, f"cannot read postgresql://guarded:***@127.0.0.1:{port}/postgres: {why}")
    code, line = serve_message(f"postgresql://postgres@127.0.0.1:{port}/nothing")
    assert (code, line) == (
        3,
        f'cannot read postgresql://postgres@127.0.0.1:{port}/nothing: database "nothing" does not exist',
    )


async def test_unreachable_database_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "_CONNECT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = open_database(f"postgresql://user@127.0.0.1:{silent.getsockname()[1]}/shop")
        with pytest.raises(ConnectionError, match=r"/shop: no response within 0\.1 seconds"):
            await database.table_names()
    await database.dispose()


@in_postgres
@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
async def test_every_postgresql_scheme_is_accepted(database: Database, scheme: str) -> None:
    await database.run(*TABLES, "create schema other", "create table other.things (id integer primary key)")
    url = database.url.replace("postgresql", scheme)
    with serving(url, "--table", "products", "--table", "other.things") as running:
        assert json.loads(curl(running.url("/products")).out) == PRODUCTS
        assert json.loads(curl(running.url("/other.things")).out) == []


@in_postgres
async def test_postgresql_sslmode_is_supported(database: Database) -> None:
    await database.run(*TABLES)
    with serving(f"{database.url}?sslmode=disable", "--table", "products") as running:
        assert json.loads(curl(running.url("/products")).out) == PRODUCTS
    done = run("serve", f"{database.url}?sslmode=require")  # the PostgreSQL server of the tests has no TLS
    assert done.code == 3
    assert "SSL" in done.message
