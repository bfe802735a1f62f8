"""The fuzz targets by name. Each is a function of the fuzzer's bytes and raises an exception for a wrong result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fuzzing import decoders, messages
from fuzzing.speedups import KINDS

ROOT = Path(__file__).parents[1]

CORPUS = ROOT / "fuzzing" / "corpus"
"""The stored inputs, in one folder for each target."""

TARGETS: dict[str, Callable[[bytes], None]] = {**decoders.TARGETS, **messages.TARGETS}

COMPARED = " and ".join(KINDS) + (" code are compared" if len(KINDS) > 1 else " code only: nothing is compiled")
"""The kinds of code, for the first line that `make fuzz SECONDS=...` prints."""
