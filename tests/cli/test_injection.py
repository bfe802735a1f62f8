"""SQL injection into `chunkwise serve` with real databases, through requests and the command line.

Each text is tried at every place of a request. It must be rejected, ignored or treated as a value. No response may
contain data of the table that is not published, and the database must not change.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientSession, WSServerHandshakeError
from yarl import URL

from tests.cli.running import run, serving
from tests.databases import KINDS, Database

everywhere = pytest.mark.parametrize("database", KINDS, indirect=True)

SECRET = "hidden-7f3a"
WORDS = [
    "'",
    '"',
    "1 or 1=1",
    "1' or '1'='1",
    '1" or "1"="1',
    "1) or (1=1",
    "'; drop table products; --",
    "1; delete from products",
    "1; commit; delete from products; begin; --",
    "' union select 1, secret, 2 from secrets --",
    "1 union all select 1, secret, 2 from secrets",
    "(select secret from secrets)",
    "' || (select secret from secrets) || '",
    "$$; drop table products; $$",
    "$1",
    "?",
    ":name",
    "%s",
    "\\'; drop table products; --",
    "1/**/or/**/1=1",
    "\u02bc; drop table products; --",  # a quote that some encodings convert to a plain quote
    "\uff07 or 1=1 --",
    "chunkwise_after_0",
    "pg_sleep(60)",
    "randomblob(1000000000)",
]
CODES = ["'", "1", "a' or 'b", "z; drop table codes"]
EVIL_TABLE = """evil"; drop table products; --'"""
EVIL_KEY = """id" desc; drop table products; --"""
PRODUCTS = [{"id": 1, "name": "tea", "price": 2.5}, {"id": 2, "name": "it's", "price": 30.0}]
QUERIES = {
    "named": "select id from products where name = :name",
    "like": "select id from products where name like :name || '%'",
    "under": "select * from products where price < :max order by id",
    "first": "select * from products order by id limit cast(:count as integer)",
}


class Shop:
    """A database that is served, and a client of the server."""

    def __init__(self, base: str, session: ClientSession) -> None:
        self.base = base
        self.session = session

    async def ask(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Request a path, which is sent unchanged; return the status, and the items or the problem."""
        asked = {"Accept": "application/json", **(headers or {})}
        async with self.session.get(URL(self.base + path, encoded=True), headers=asked) as response:
            body = await response.text()
        assert SECRET not in body
        assert response.status in (200, 204, 206, 400, 404, 406, 416), (response.status, body)
        content: Any = json.loads(body) if body and response.content_type.endswith("json") else body
        if response.status >= 400:
            assert content["status"] == response.status
        return response.status, content


@asynccontextmanager
async def shop_of(database: Database) -> AsyncIterator[Shop]:
    """Serve some tables and queries, and check that the database is unchanged afterwards."""
    table, key = (name.replace('"', '""') for name in (EVIL_TABLE, EVIL_KEY))
    await database.run(
        "create table secrets (secret text)",
        f"insert into secrets values ('{SECRET}')",
        "create table products (id integer primary key, name text, price double precision)",
        "insert into products values (1, 'tea', 2.5), (2, 'it''s', 30)",
        "create table codes (code text primary key)",
        f'create table "{table}" ("{key}" integer primary key)',
        f'insert into "{table}" values (1), (2)',
    )
    for code in CODES:
        await database.run("insert into codes values (:code)", code=code)
    before = await content_of(database)
    words: list[object] = [database.url]
    for name in ("products", "codes", EVIL_TABLE):
        words += ["--table", name]
    for name, query in QUERIES.items():
        words += ["--query", f"{name}={query}"]
    with serving(*words) as running:
        async with ClientSession() as session:
            yield Shop(running.base, session)
        assert "Traceback" not in running.running.err
    assert await content_of(database) == before


async def content_of(database: Database) -> list[Any]:
    """Return the content of the database: its tables and their rows."""
    catalog = "sqlite_schema" if database.kind == "sqlite" else "pg_tables where schemaname = 'public'"
    name = "name" if database.kind == "sqlite" else "tablename"
    found: list[Any] = await database.run(f"select {name} from {catalog} order by 1")
    for table in ("products", "codes", "secrets"):
        found += await database.run(f"select * from {table} order by 1")
    return found


@everywhere
async def test_sql_in_url_path_is_not_found(database: Database) -> None:
    async with shop_of(database) as shop:
        for word in WORDS:
            for path in ("/", "/products", "/products/", "/products;", "/products.", "/secrets", "/public.", "/main."):
                status, _ = await shop.ask(path + quote(word, safe=""))
                assert status == 404, path + word
        assert (await shop.ask("/secrets"))[0] == 404


@everywhere
async def test_sql_in_table_parameters_is_rejected(database: Database) -> None:
    async with shop_of(database) as shop:
        for word in WORDS:
            text = quote(word, safe="")
            for name in ("format", "limit", "interval", "path", "order_by", "columns", "where", "table", "id", word):
                status, _ = await shop.ask(f"/products?{quote(name, safe='')}={text}")
                assert status == 400, (name, word)
            for value in (word, f"items={word}-", f"items=0-{word}", f"items=1-&{word}"):
                status, items = await shop.ask(f"/products?range={quote(value, safe='')}")
                assert (status, items) == (200, PRODUCTS), value


@everywhere
async def test_sql_in_headers_is_ignored(database: Database) -> None:
    async with shop_of(database) as shop:
        for word in WORDS:
            plain = word.encode("utf-8", "ignore").decode("latin-1")
            for name in ("Range", "If-Range", "Items-After", "Last-Event-ID", "Prefer", "Accept-Encoding"):
                assert await shop.ask("/products", {name: plain}) == (200, PRODUCTS), (name, word)
            assert (await shop.ask("/products", {"Accept": plain}))[0] in (200, 406)
            for value in (f"items={plain}-", f"items=1-{plain}", f"{plain}=1-"):
                headers = {"Range": value, "Items-After": "[1]"}
                assert await shop.ask("/products", headers) == (200, PRODUCTS), value
            changed = {"Range": "items=1-", "Items-After": "[1]", "If-Range": plain}
            assert await shop.ask("/products", changed) == (200, PRODUCTS)


@everywhere
async def test_sql_in_integer_key_is_rejected(database: Database) -> None:
    async with shop_of(database) as shop:
        for word in WORDS:
            for key in (word, [word], [word, word], [[word]], [{"id": word}], {"id": word}):
                status, content = await shop.ask("/products", {"Range": "items=1-", "Items-After": json.dumps(key)})
                # No word is a number. A number in quotes would be accepted, because CSV clients send keys as text.
                assert status == 400, (key, content)
            events = {"Accept": "text/event-stream", "Last-Event-ID": f"0 {json.dumps([word])}"}
            assert (await shop.ask("/products", events))[0] == 400
            plain = {**events, "Last-Event-ID": f"0 {word}".encode().decode("latin-1")}
            status, content = await shop.ask("/products", plain)
            assert (status, content.count("data:")) in ((200, 2), (400, 0)), (word, content)
            with pytest.raises(WSServerHandshakeError) as refused:
                await shop.session.ws_connect(
                    shop.base.replace("http", "ws") + "/products?range=items=1-",
                    headers={"Items-After": json.dumps([word])},
                )
            assert refused.value.status == 400


@everywhere
async def test_sql_in_text_key_is_only_text(database: Database) -> None:
    async with shop_of(database) as shop:
        for word in [*WORDS, *CODES]:
            behind = [{"code": code} for code in CODES if code > word]
            asked = {"Range": "items=1-", "Items-After": json.dumps([word])}
            assert await shop.ask("/codes", asked) == (206, behind), word
            events = {"Accept": "text/event-stream", "Last-Event-ID": f"0 {json.dumps([word])}"}
            status, content = await shop.ask("/codes", events)
            assert (status, content.count("data:")) == ((200 if behind else 204), len(behind)), word


@everywhere
async def test_sql_in_query_parameter_is_only_a_value(database: Database) -> None:
    async with shop_of(database) as shop:
        for word in WORDS:
            text = quote(word, safe="")
            assert await shop.ask(f"/named?name={text}") == (200, []), word
            found = [{"id": 2}] if word == "%s" else []  # LIKE '%s%' matches the name "it's"
            assert await shop.ask(f"/like?name={text}") == (200, found), word
            assert (await shop.ask(f"/named?name=tea&{text}={text}"))[0] == 400
            assert (await shop.ask(f"/named?name=tea&name={text}"))[0] == 400
            # SQLite parameters have no type: text compares as greater than any number, and is cast to 0 or 1.
            for path in (f"/under?max={text}", f"/first?count={text}"):
                status, content = await shop.ask(path)
                assert status == 400 if database.kind == "postgresql" else content == PRODUCTS[: len(content)], path
        assert await shop.ask("/named?name=it%27s") == (200, [{"id": 2}])
        assert await shop.ask("/under?max=10") == (200, PRODUCTS[:1])


@everywhere
async def test_stored_value_that_looks_like_sql_is_found(database: Database) -> None:
    async with shop_of(database) as shop:
        for number, word in enumerate(WORDS, 100):
            await database.run("insert into products values (:id, :word, 1000)", id=number, word=word)
        for number, word in enumerate(WORDS, 100):
            assert await shop.ask(f"/named?name={quote(word, safe='')}") == (200, [{"id": number}]), word
        await database.run("delete from products where id >= 100")


@everywhere
async def test_sql_in_table_names_is_quoted(database: Database) -> None:
    async with shop_of(database) as shop:
        path = "/" + quote(EVIL_TABLE, safe="")
        assert await shop.ask(path) == (200, [{EVIL_KEY: 1}, {EVIL_KEY: 2}])
        assert await shop.ask(path, {"Range": "items=1-", "Items-After": "[1]"}) == (206, [{EVIL_KEY: 2}])
        status, page = await shop.ask("/", {"Accept": "text/html"})
        assert (status, page.count("evil%22"), page.count('evil"')) == (200, page.count("evil"), 0)


@everywhere
async def test_sql_in_table_option_is_rejected(database: Database) -> None:
    await database.run("create table secrets (secret text)", f"insert into secrets values ('{SECRET}')")
    for word in (
        "secrets; drop table secrets",
        'secrets" --',
        "secrets'",
        "(select secret from secrets)",
        "secrets where 1=1",
    ):
        done = run("serve", database.url, "--port", 0, "--table", word)
        assert (done.code, done.out) == (2, b"")
        assert done.message.startswith(f"Invalid value for --table: there is no table {word!r} in ")
    for query in ("select 1; drop table secrets", "select 1; select 2"):
        assert run("serve", database.url, "--port", 0, "--query", f"x={query}").code == 2
    assert [tuple(row) for row in await database.run("select secret from secrets")] == [(SECRET,)]
