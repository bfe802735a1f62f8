"""Compiled functions and classes, or the same in Python where the package was built without a compiler.

This is the one place that chooses. ``CHUNKWISE_PURE=1`` in the environment chooses the Python code in any case.
``KIND`` is the code in use: "compiled" or "pure".
"""

import os

try:
    if os.environ.get("CHUNKWISE_PURE"):
        raise ImportError
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
else:
    KIND = "compiled"

__all__ = ["KIND", "Items", "Scanner", "event_texts", "gather_items", "holds_null", "line_ends", "whole_bytes"]
