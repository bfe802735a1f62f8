"""Choose, for a block of code, what of the decoders has two twins: compiled or pure.

Must not know which modules use them: it looks them up.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from chunkwise.formats import events
from chunkwise.formats.speedups import twins

_MADE_IN = {
    "Scanner": "scanner",
    "event_texts": "sse",
    "holds_null": "encoded",
    "line_ends": "encoded",
    "whole_bytes": "utf8",
}
"""The name that users import -> the first part of the names of its two modules."""

KINDS = ("compiled", "pure") if twins.KIND == "compiled" else ("pure",)
"""Those that there are: without a compiler, and with CHUNKWISE_PURE=1, only the pure ones."""


def _users() -> list[tuple[ModuleType, str]]:
    """Return each module that has imported one of the names from `twins`, and the name."""
    modules = [module for name, module in sys.modules.items() if name.startswith("chunkwise.")]
    return [
        (module, name)
        for module in modules
        for name in _MADE_IN
        if module is not twins and vars(module).get(name) is getattr(twins, name) and not _is_twin(module)
    ]


def _is_twin(module: ModuleType) -> bool:
    return module.__name__.endswith(("_pure", "_compiled", ".parsing.scanner"))


def _path(module: str, kind: str) -> str:
    if (module, kind) == ("scanner", "pure"):
        return "chunkwise.formats.parsing.scanner"
    return f"chunkwise.formats.speedups.{module}_{kind}"


def _made(kind: str) -> dict[str, Any]:
    return {name: getattr(import_module(_path(module, kind)), name) for name, module in _MADE_IN.items()}


TWINS = {kind: _made(kind) for kind in KINDS}
_USERS = _users()
assert {name for _, name in _USERS} == set(_MADE_IN), "a twin that nobody uses is not compared"
assert events in [module for module, _ in _USERS]


@contextmanager
def twin(kind: str) -> Iterator[None]:
    """Let all decoders use the twins of that kind."""
    try:
        for module, name in _USERS:
            setattr(module, name, TWINS[kind][name])
        yield
    finally:
        for module, name in _USERS:
            setattr(module, name, getattr(twins, name))
