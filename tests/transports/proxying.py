"""A real nginx between our server and its clients."""

import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

from tests.flow.producing import GUARD_SECONDS

READ_SECONDS = 1
"""nginx's proxy_read_timeout in tests that wait for it; the default is 60 seconds."""

_CONFIG = """
daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {servers}
}}
"""


def free_port() -> int:
    """Return a port for a program that cannot choose one itself.

    The port is not one that the kernel chooses for a client (on Linux 32768 to 60999): a connection of another test
    could take it before the program does. It does not depend on the seed of the test: two runs with the same seed would
    choose the same port.
    """
    choose = random.SystemRandom()
    while True:
        port = choose.randrange(15_000, 32_768)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _is_running(process: "subprocess.Popen[bytes]") -> bool:
    return process.poll() is None


def answers(port: int, is_running: Callable[[], bool]) -> bool:
    """Wait until a program listens on the port; return False if the program ends first."""
    stop = time.monotonic() + GUARD_SECONDS
    while is_running() and time.monotonic() < stop:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return True
        time.sleep(0.01)
    return False


def running_nginx(folder: Path, locations: str) -> AbstractContextManager[int]:
    """Run nginx with these locations; yield its port."""
    return running_nginx_of(folder, lambda port: f"server {{ listen 127.0.0.1:{port}; {locations} }}")


@contextmanager
def running_nginx_of(folder: Path, servers: Callable[[int], str]) -> Iterator[int]:
    """Run nginx with a given http block; yield its port.

    Args:
        folder: the folder for all files that nginx writes.
        servers: takes the port, and returns the server blocks.
    """
    user = "user root;" if os.geteuid() == 0 else ""  # workers of another user could not enter the folder
    process: subprocess.Popen[bytes] | None = None
    for _ in range(5):  # another program may take the free port first
        port = free_port()
        config = folder / "nginx.conf"
        config.write_text(_CONFIG.format(folder=folder, port=port, user=user, servers=servers(port)))
        command = ["nginx", "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(config)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        if answers(port, partial(_is_running, process)):
            break
        process.kill()
        _, told = process.communicate()
        assert b"Address already in use" in told, told.decode()
    assert process is not None
    try:
        yield port
    finally:
        process.terminate()  # the master process, which ends the workers
        try:
            process.communicate(timeout=GUARD_SECONDS)
        finally:
            process.kill()
