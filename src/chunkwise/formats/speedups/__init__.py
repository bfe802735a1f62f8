"""Compiled functions and classes, or the same in Python where the package was built without a compiler.

This is the one place that chooses. ``CHUNKWISE_PURE=1`` in the environment chooses the Python code in any case.
"""

import os

from chunkwise.formats.speedups.fallback import (
    Items,
    Scanner,
    event_texts,
    gather_items,
    holds_null,
    line_ends,
    whole_bytes,
)

KIND = "pure"
"""The code in use: "compiled" or "pure"."""

if not os.environ.get("CHUNKWISE_PURE"):
    try:
        from chunkwise.formats.speedups._speedups import (
            Items,
            Scanner,
            event_texts,
            gather_items,
            holds_null,
            line_ends,
            whole_bytes,
        )
    except ImportError:  # built without a compiler
        pass
    else:
        KIND = "compiled"

__all__ = ["KIND", "Items", "Scanner", "event_texts", "gather_items", "holds_null", "line_ends", "whole_bytes"]
