"""Choose whether the decoders use the compiled code or the fallback inside a ``with`` block."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from chunkwise.formats import events, speedups

_NAMES = ("Scanner", "event_texts", "holds_null", "line_ends", "whole_bytes")
"""The names that formats import from `speedups`."""

_MODULES = {
    "compiled": "chunkwise.formats.speedups._speedups",
    "pure": "chunkwise.formats.speedups.fallback",
}

KINDS = ("compiled", "pure") if speedups.KIND == "compiled" else ("pure",)
"""The available kinds of code: only "pure" without a compiler or with CHUNKWISE_PURE=1."""

CODE: dict[str, dict[str, Any]] = {
    kind: {name: getattr(import_module(_MODULES[kind]), name) for name in _NAMES} for kind in KINDS
}
"""For each kind of code, its functions and classes by name."""


def _users() -> list[tuple[ModuleType, str]]:
    """Return a pair (module, name) for each name of `_NAMES` that a module has imported from `speedups`."""
    return [
        (module, name)
        for path, module in sys.modules.items()
        if path.startswith("chunkwise.") and not path.startswith(speedups.__name__) and not path.endswith(".scanner")
        for name in _NAMES
        if vars(module).get(name) is getattr(speedups, name)
    ]


_USERS = _users()
assert {name for _, name in _USERS} == set(_NAMES), "no module imports some name of _NAMES"
assert events in [module for module, _ in _USERS]


@contextmanager
def using(kind: str) -> Iterator[None]:
    """Make all decoders use the code ``kind``, "compiled" or "pure", inside the ``with`` block."""
    try:
        for module, name in _USERS:
            setattr(module, name, CODE[kind][name])
        yield
    finally:
        for module, name in _USERS:
            setattr(module, name, getattr(speedups, name))
