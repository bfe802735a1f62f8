"""What a test needs of its machine: skipped by name where that is missing, but never in CI."""

import os
import shutil
import sys
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / ".venv" / "data"
CHROMIUM = shutil.which("chromium")


def needs(what: str, *, present: bool) -> pytest.MarkDecorator:
    """In CI nothing is skipped: a test that lacks what it needs fails there."""
    return pytest.mark.skipif(not present and not os.environ.get("CI"), reason=f"needs {what}, which is not here")


def needs_data(name: str) -> pytest.MarkDecorator:
    return needs(f"{name} (make data)", present=(DATA / name).exists())


needs_curl = needs("curl", present=shutil.which("curl") is not None)
needs_node = needs("node", present=shutil.which("node") is not None)
needs_chromium = needs("chromium", present=CHROMIUM is not None)
needs_nginx = needs("nginx", present=shutil.which("nginx") is not None)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="shows it by what only Linux has")
