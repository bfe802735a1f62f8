"""The name of a fuzz target -> its function, which gets the fuzzer's bytes and raises if they break a promise."""

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
