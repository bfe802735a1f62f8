"""The compiled functions and classes, or their Python equivalents if chunkwise was built without a compiler.

This module chooses between the two. If the environment variable ``CHUNKWISE_PURE`` is set to any text, it chooses the
Python code. ``KIND`` is the code in use: "compiled" or "pure".
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
except ImportError:  # use the Python code: there is no compiled code, or CHUNKWISE_PURE is set
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
