"""speedups/__init__.py: it chooses the compiled code, or the fallback without compiled code or on request."""

import os
import shutil
import subprocess
import sys
from types import ModuleType

import pytest

from chunkwise.formats import speedups

COMPILED = "chunkwise.formats.speedups._speedups"
FALLBACK = ("chunkwise.formats.speedups.fallback", "chunkwise.formats.parsing.scanner")
HIDE = f"import sys; sys.modules[{COMPILED!r}] = None"

CHOICE = """
from chunkwise.flow import gathering, inbound
from chunkwise.formats import json_document, speedups
used = inbound.Items, gathering.gather_items, json_document.Scanner
assert used == (speedups.Items, speedups.gather_items, speedups.Scanner)
print(speedups.KIND, *sorted({getattr(speedups, name).__module__ for name in speedups.__all__ if name != "KIND"}))
"""


def chosen(pure: str, before: str = "") -> list[str]:
    """Return KIND and the modules of all functions and classes, as seen in a new process."""
    environment = {**os.environ, "CHUNKWISE_PURE": pure}
    done = subprocess.run([sys.executable, "-c", before + CHOICE], env=environment, capture_output=True, check=True)
    return done.stdout.decode().split()


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no compiler")
def test_compiled_code_is_built_with_a_compiler() -> None:
    assert chosen("") == ["compiled", COMPILED]


def test_environment_variable_selects_fallback(compiled: ModuleType) -> None:
    assert chosen("") == ["compiled", compiled.__name__]
    assert chosen("1") == ["pure", *sorted(FALLBACK)]
    assert chosen(os.environ.get("CHUNKWISE_PURE", ""))[0] == speedups.KIND


def test_fallback_is_used_without_compiled_code() -> None:
    assert chosen("", HIDE) == ["pure", *sorted(FALLBACK)]
