"""The compiled code or the fallback -> decoders and encoders that use it."""

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

from chunkwise.formats import events, json_document, speedups, sse
from chunkwise.formats.parsing import json_values, stream_decoder
from chunkwise.formats.speedups import fallback

USERS = (events, json_document, json_values, sse, stream_decoder)
COMPILED = "chunkwise.formats.speedups._speedups"
CODES = [*([importlib.import_module(COMPILED)] if importlib.util.find_spec(COMPILED) else []), fallback]
"""The fallback, and the compiled code if it was built."""


@contextmanager
def using(code: ModuleType) -> Iterator[None]:
    """Make all decoders and encoders use the given code in the ``with`` block."""
    with pytest.MonkeyPatch.context() as patch:
        for module in USERS:
            used = [name for name in speedups.__all__ if name in vars(module)]
            assert used, f"{module.__name__} uses none of {speedups.__all__}"
            for name in used:
                patch.setattr(module, name, getattr(code, name))
        yield
