"""``chunkwise demo``: the tutorial's server, or its clients."""

import os
from functools import partial

import rich_click as click
from aiohttp import ClientConnectorError

from chunkwise.cli.listening import base_url, listen, program
from chunkwise.demo.app import make_app
from chunkwise.demo.clients import run_clients


async def demo(host: str, port: int, *, client: bool, interval: float | None) -> None:
    """Run the tutorial's server or, with ``--client``, its clients; see the command's help."""
    if client:
        try:
            await run_clients(base_url(host, port), interval, partial(print, flush=True))
        except ClientConnectorError as error:
            reason = f"cannot connect to {host}:{port}: {os.strerror(error.errno or 0)}"
            raise ConnectionError(f"{reason}; start the demo first: {program()} demo{_options(host, port)}") from error
        return
    if interval is not None:
        raise click.BadParameter(
            "needs --client; without it, add ?interval=SECONDS to a URL of the demo", param_hint="--interval"
        )
    await listen(make_app(), host, port, _print_curl_lines)


def _print_curl_lines(base: str) -> None:
    host, _, port = base.removeprefix("http://").rpartition(":")
    options = _options(host.strip("[]"), int(port))
    print(f"The demo is at {base}/ (Ctrl-C stops it). Open it in a browser, or try in a second terminal:\n")
    for path in ("chunked", "non-chunked", "json", "nested", "events", "fail"):
        print(f"  curl -N {base}/{path}")
    print(f"  curl -N '{base}/large?items=1000000'")
    print(f"  curl -N -H 'Accept: text/event-stream' {base}/json")
    print(f"  yes 'grüße aus dem strom' | head -n 5000 | curl -sN -T . {base}/upper | tail -n 1")
    print(f"  {program()} get {base.replace('http:', 'ws:')}/ws --from text")
    print(f"  {program()} demo --client{options}", flush=True)


def _options(host: str, port: int) -> str:
    return f" --host {host}" * (host != "127.0.0.1") + f" --port {port}" * (port != 8080)
