"""Unusual sources and wrong options of `respond` -> a single value, or an error that names the option."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientSession, web

import chunkwise
from tests.transports.wire import serving, url_of


async def test_future_is_a_single_value() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        future = asyncio.get_running_loop().create_future()
        future.set_result({"n": 1})
        return await chunkwise.respond(request, future, "json")

    async with serving(handler) as port, ClientSession() as session, session.get(url_of(port)) as response:
        assert await response.json() == {"n": 1}


@pytest.mark.parametrize(
    ("options", "error"), [({"formt": "json"}, TypeError), ({"format": "xml"}, chunkwise.UnknownFormat)]
)
def test_wrong_option_fails_at_definition(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        chunkwise.streaming(**options)
