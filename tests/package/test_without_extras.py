"""chunkwise works without its extras; an error message names the missing extra."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BARE = Path(__file__).parent / "bare.py"

CLI = ["rich", "rich_click", "click"]
SQL = ["sqlalchemy", "aiosqlite", "asyncpg"]
DEMO = ["websockets"]


def run_without(missing: list[str], folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Python without these modules."""
    for name in missing:
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name={name!r})\n")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )


def test_package_works_without_extras(tmp_path: Path) -> None:
    done = run_without([*CLI, *SQL, *DEMO], tmp_path, "-W", "error", str(BARE))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("; 2 extras are missing, and said so\n")


@pytest.mark.parametrize(
    ("missing", "words", "told"),
    [
        (CLI, ["get", "http://127.0.0.1:1/"], "the command line needs the extra 'cli': pip install 'chunkwise[cli]'"),
        (["rich"], ["--help"], "chunkwise: the command line needs the extra 'cli': pip install 'chunkwise[cli]'"),
        (SQL, ["serve", "sqlite:///x.db"], "databases need the extra 'sql': pip install 'chunkwise[sql]'"),
    ],
)  # fmt: skip
def test_command_without_extra_names_it(tmp_path: Path, missing: list[str], words: list[str], told: str) -> None:
    done = run_without(missing, tmp_path, "-m", "chunkwise", *words)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", [["sqlalchemy"], SQL])
def test_sql_sources_without_extra_name_it(tmp_path: Path, missing: list[str]) -> None:
    done = run_without(missing, tmp_path, "-c", "from chunkwise.sources import sql")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "ModuleNotFoundError: SQL sources need the extra 'sql': pip install 'chunkwise[sql]'"


def test_demo_without_extra_omits_one_client(tmp_path: Path) -> None:
    code = """
import asyncio
from aiohttp import web
from chunkwise.demo import app, clients

async def main():
    runner = web.AppRunner(app.make_app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await clients.run_clients(f"http://127.0.0.1:{runner.addresses[0][1]}", 0.0, print)
    await runner.cleanup()

asyncio.run(main())
"""
    done = run_without(DEMO, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("this client needs the extra 'demo': pip install 'chunkwise[demo]'") == 1
