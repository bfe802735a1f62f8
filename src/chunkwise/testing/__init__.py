"""Tools for your tests of streams: a proxy that breaks responses, and test cases for your formats and servers.

Only the plugin for pytest, `chunkwise.testing.fixtures`, needs pytest.
"""

from chunkwise.testing.conformance import ConformanceCase
from chunkwise.testing.faults import Fault, cut_at, dribble, http10, none, reset_at, stall_at
from chunkwise.testing.format_cases import format_cases
from chunkwise.testing.proxy import FaultProxy
from chunkwise.testing.server_cases import server_cases

__all__ = [
    "ConformanceCase",
    "Fault",
    "FaultProxy",
    "cut_at",
    "dribble",
    "format_cases",
    "http10",
    "none",
    "reset_at",
    "server_cases",
    "stall_at",
]
