"""Tests of formats run twice: with the compiled code and with the fallback."""

from collections.abc import Iterator
from types import ModuleType

import pytest

from chunkwise.formats.speedups import fallback
from tests.formats.codes import COMPILED, using


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    """The compiled code; without it, the test is skipped."""
    module: ModuleType = pytest.importorskip(COMPILED, reason="built without a compiler")
    return module


@pytest.fixture(params=["compiled", "fallback"], scope="module")
def code(request: pytest.FixtureRequest) -> ModuleType:
    """The compiled code, then the fallback."""
    module: ModuleType = fallback if request.param == "fallback" else request.getfixturevalue("compiled")
    return module


@pytest.fixture(scope="module")
def speedups_and_fallback(code: ModuleType) -> Iterator[None]:
    """All decoders and encoders use the compiled code, then the fallback."""
    with using(code):
        yield
