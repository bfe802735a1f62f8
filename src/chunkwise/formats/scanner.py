"""The scanner that is here: compiled where it could be built, else its pure twin. The one place that chooses.

Both are one class, to the last word of its errors; the compiled twin is some thirty times as fast. ``CHUNKWISE_PURE=1``
in the environment chooses the pure one.
"""

from __future__ import annotations

import os

from chunkwise.formats.scanner_pure import Scanner

KIND = "pure"
"""Which twin it is: "compiled" or "pure"."""

if not os.environ.get("CHUNKWISE_PURE"):
    try:
        from chunkwise.formats.scanner_compiled import Scanner
    except ImportError:  # it was installed without a compiler
        pass
    else:
        KIND = "compiled"

__all__ = ["KIND", "Scanner"]
