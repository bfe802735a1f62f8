"""What of the flow has two twins, compiled and pure: those that are here, as `formats.twins` has chosen."""

from __future__ import annotations

from contextlib import suppress

from chunkwise.flow.gathering_pure import gather_items
from chunkwise.flow.items_pure import Items
from chunkwise.formats.speedups.twins import KIND

if KIND == "compiled":
    with suppress(ImportError):
        from chunkwise.flow.gathering_compiled import gather_items
        from chunkwise.flow.items_compiled import Items

__all__ = ["Items", "gather_items"]
