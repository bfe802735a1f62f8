"""What has two twins, compiled and pure: those that are here. The one place that chooses.

The compiled ones are there if a compiler was when the package was built. They do the same, to the last word of their
errors, and the scanner some thirty times as fast. ``CHUNKWISE_PURE=1`` in the environment chooses the pure ones.
"""

from __future__ import annotations

import os

from chunkwise.formats.parsing.scanner import Scanner
from chunkwise.formats.speedups.encoded_pure import holds_null, line_ends
from chunkwise.formats.speedups.sse_pure import event_texts
from chunkwise.formats.speedups.utf8_pure import whole_bytes

KIND = "pure"
"""Which they are: "compiled" or "pure"."""

if not os.environ.get("CHUNKWISE_PURE"):
    try:
        from chunkwise.formats.speedups.encoded_compiled import holds_null, line_ends
        from chunkwise.formats.speedups.scanner_compiled import Scanner
        from chunkwise.formats.speedups.sse_compiled import event_texts
        from chunkwise.formats.speedups.utf8_compiled import whole_bytes
    except ImportError:  # there was no compiler
        pass
    else:
        KIND = "compiled"

__all__ = ["KIND", "Scanner", "event_texts", "holds_null", "line_ends", "whole_bytes"]
