"""Room 4: what tests of streams need, in chunkwise and in its users' projects.

A proxy that breaks answers on purpose. It needs no pytest; `chunkwise.testing.fixtures` is its plugin.
"""

from __future__ import annotations

from chunkwise.testing.faults import Fault, cut_at, dribble, http10, none, reset_at, stall_at
from chunkwise.testing.proxy import FaultProxy

__all__ = ["Fault", "FaultProxy", "cut_at", "dribble", "http10", "none", "reset_at", "stall_at"]
