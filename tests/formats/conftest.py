"""Tests of formats run twice: with the compiled code and with the fallback."""

from collections.abc import Iterator
from types import ModuleType

import pytest

from chunkwise.formats import events, json_document, speedups, sse
from chunkwise.formats.parsing import json_values, stream_decoder
from chunkwise.formats.speedups import fallback

USERS = (events, json_document, json_values, sse, stream_decoder)


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    """The compiled code; without it, the test is skipped."""
    module: ModuleType = pytest.importorskip("chunkwise.formats.speedups._speedups", reason="built without a compiler")
    return module


@pytest.fixture(params=["compiled", "fallback"], scope="module")
def code(request: pytest.FixtureRequest) -> ModuleType:
    """The compiled code, then the fallback."""
    module: ModuleType = fallback if request.param == "fallback" else request.getfixturevalue("compiled")
    return module


@pytest.fixture(scope="module")
def speedups_and_fallback(code: ModuleType) -> Iterator[None]:
    """All decoders and encoders use the compiled code, then the fallback."""
    with pytest.MonkeyPatch.context() as patch:
        for module in USERS:
            used = [name for name in speedups.__all__ if name in vars(module)]
            assert used, f"{module.__name__} uses none of {speedups.__all__}"
            for name in used:
                patch.setattr(module, name, getattr(code, name))
        yield
