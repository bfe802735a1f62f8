"""Hypothesis profiles: nothing is timed, because a test does not measure time, and a blob to replay what failed.

And a cache folder of the tests' own, also for the processes that they start; and the databases, of which a server is
started once.
"""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.databases import Database, Postgres, database_of, running_postgres

settings.register_profile(
    "default", deadline=None, max_examples=60, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("few", parent=settings.get_profile("default"), max_examples=10)
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=2_000)
# To import aiohttp takes twice as long where it reads the certificates that the system trusts. Whom the tests trust,
# they name; the processes that they start are to have it from here.
os.environ.update(SSL_CERT_FILE=os.devnull, SSL_CERT_DIR=os.devnull)

settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

_LONGEST = {
    "test_promises.py", "test_get_resumes.py", "test_benchmarks.py", "test_nginx.py", "test_compression.py",
    "test_http_cuts.py", "test_injection.py", "test_http_clients.py", "test_replicas.py", "test_typing.py",
}  # fmt: skip
"""The files that take longest. They are begun first, so that at the end no one of them is waited for."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What runs from now on, also in processes that are started, this file's tests have covered."""
    if "COVERAGE_PROCESS_CONFIG" not in os.environ:
        return
    from coverage import Coverage

    file = item.nodeid.split("::")[0]
    if (measured := Coverage.current()) and measured.get_option("run:context") != file:
        measured.switch_context(file)
        measured.set_option("run:context", file)
        os.environ["COVERAGE_PROCESS_CONFIG"] = measured.config.serialize()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _LONGEST)  # otherwise as they are: in random order


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHUNKWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for all tests; see `needs_postgres`."""
    with running_postgres() as server:
        yield server


@pytest.fixture
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An empty database of the kind that the test is parametrized by (`KINDS`, indirect)."""
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    async with database_of(request.param, tmp_path, postgres) as made:
        yield made
