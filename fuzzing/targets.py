"""The name of a target -> the function that is called with the fuzzer's bytes, and raises if they break a promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fuzzing import decoders, messages
from fuzzing.speedups import KINDS

ROOT = Path(__file__).parents[1]

CORPUS = ROOT / "fuzzing" / "corpus"
"""The folder of the first inputs, one folder for each target."""

TARGETS: dict[str, Callable[[bytes], None]] = {**decoders.TARGETS, **messages.TARGETS}

COMPARED = " and ".join(KINDS) + (" code are compared" if len(KINDS) > 1 else " code only: nothing is compiled")
"""The first line that the driver prints."""
