"""Fixtures that run the tests of formats twice: with the compiled code and with the fallback."""

from collections.abc import Iterator
from types import ModuleType

import pytest

from chunkwise.formats.speedups import fallback
from tests.formats.codes import COMPILED, using


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    """Return the compiled code; skip the test if it was not built."""
    module: ModuleType = pytest.importorskip(COMPILED, reason="built without a compiler")
    return module


@pytest.fixture(params=["compiled", "fallback"], scope="module")
def code(request: pytest.FixtureRequest) -> ModuleType:
    """Run the test with the compiled code, then with the fallback."""
    module: ModuleType = fallback if request.param == "fallback" else request.getfixturevalue("compiled")
    return module


@pytest.fixture(scope="module")
def speedups_and_fallback(code: ModuleType) -> Iterator[None]:
    """Run the test with all decoders and encoders on the compiled code, then on the fallback."""
    with using(code):
        yield
