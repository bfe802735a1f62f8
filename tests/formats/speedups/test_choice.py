"""speedups/__init__.py: the compiled code where there is a compiler, the fallback without one or on demand."""

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
    """The kind, and the modules of all functions and classes, in a new process."""
    environment = {**os.environ, "CHUNKWISE_PURE": pure}
    done = subprocess.run([sys.executable, "-c", before + CHOICE], env=environment, capture_output=True, check=True)
    return done.stdout.decode().split()


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no compiler")
def test_the_compiled_code_was_built_where_there_is_a_compiler() -> None:
    assert chosen("") == ["compiled", COMPILED]


def test_one_variable_chooses_the_fallback(compiled: ModuleType) -> None:
    assert chosen("") == ["compiled", compiled.__name__]
    assert chosen("1") == ["pure", *sorted(FALLBACK)]
    assert chosen(os.environ.get("CHUNKWISE_PURE", ""))[0] == speedups.KIND


def test_the_fallback_is_chosen_where_nothing_was_compiled() -> None:
    assert chosen("", HIDE) == ["pure", *sorted(FALLBACK)]
