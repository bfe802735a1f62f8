"""Fixtures and settings of all tests: which tests run, in which order, and in which environment.

- Hypothesis has no deadlines, because tests measure no time. The examples are the same in each run unless you pass
  `--hypothesis-seed`, for example with `make test SEED=random`.
- `--quick` (`make test-quick`) skips the longest files, and all tests that start another program. You do not have to
  mark such tests: `_PROGRAM_PARTS`, `_imports_programs` and the `needs` marks find them. If a test in a quick run
  starts a program, it fails.
- Tests, and the processes that they start, use a separate cache folder and ignore the certificates of the system.
"""

import gc
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import zip_longest
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.databases import Database, Postgres, database_of, running_postgres
from tests.needs import is_need

_FOLDER = Path(__file__).parent

settings.register_profile(
    "default", deadline=None, max_examples=60, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("few", parent=settings.get_profile("default"), max_examples=10)
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=2_000)
# Importing aiohttp takes twice as long if it reads the certificates of the system. Tests name those that they trust.
os.environ.update(SSL_CERT_FILE=os.devnull, SSL_CERT_DIR=os.devnull)
# A shell ignores SIGINT in background commands, and the processes that tests start would inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)

_LONGEST = [_FOLDER / name for name in (
    "cli/test_get_resumes.py", "transports/failures/test_http_cuts.py", "formats/test_promises.py",
    "test_benchmarks.py", "cli/test_tables.py", "transports/test_content_coding.py", "client/test_reconnecting.py",
    "deploy/test_nginx.py", "cli/test_serve_resumes.py", "demo/test_page_copies.py", "demo/test_page.py",
    "demo/test_page_access.py",
    "formats/test_end_record.py",
    "sources/sql/test_table_pages.py", "formats/parsing/test_scanner.py", "package/test_typing.py",
    "deploy/test_replicas.py", "server/test_websocket_both_ways.py", "cli/test_injection.py",
    "transports/failures/test_http_clients.py", "transports/failures/test_websocket_cuts.py",
    "sources/files/test_source.py", "transports/failures/test_late_readers.py",
    "transports/failures/test_http_matrix.py", "testing/test_format_cases.py", "server/test_nginx.py",
    "server/test_promises.py",
)]  # fmt: skip
"""The files that take longest, the longest first. A quick run skips them."""

_WAITING = [_FOLDER / name for name in (
    "server/test_stalls.py", "server/test_lifecycle_at_shutdown.py", "server/test_websocket_abuse.py",
    "docs/test_pages.py", "examples/test_examples.py", "examples/test_llm_tokens.py", "cli/test_serve_stops.py",
    "demo/test_page_wire.py", "server/test_disconnects.py", "server/test_websocket_inbox.py",
    "server/test_websocket_wire.py", "server/test_websocket_rules.py", "client/test_upload_connection.py",
    "demo/test_clients.py", "examples/test_fan_in.py", "examples/test_progress.py",
    "server/test_websocket_slow_clients.py", "examples/test_log_tail.py",
    "client/test_websocket.py", "testing/test_server_cases.py", "client/test_websocket_failures.py",
)]  # fmt: skip
"""The files that mostly wait for a timeout or for another program."""

_ORDER = [file for pair in zip_longest(_LONGEST, _WAITING) for file in pair if file]
"""These files start first, so that no long file runs alone at the end. The two lists alternate, so that some workers
compute while others wait."""

_PROGRAM_PARTS = {"demo", "deploy", "docs", "examples", "test_benchmarks.py", "test_readme.py", "test_real_data.py"}
"""Folders and files whose tests run other programs."""

_imports_programs = re.compile(
    r"^(?:import|from) .*\b(?:subprocess|create_subprocess_exec|run_any|started|serving|curl|\w+_server)\b",
    re.MULTILINE,
)
"""Imports of modules and functions that start programs. A quick run does not import test files with such an import."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="only the tests that start no other program")


def pytest_configure(config: pytest.Config) -> None:
    chosen = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
    settings.register_profile("chosen", parent=chosen, derandomize=config.getoption("--hypothesis-seed") is None)
    settings.load_profile("chosen")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if not config.getoption("--quick") or _FOLDER not in collection_path.parents:
        return None
    if collection_path in _LONGEST or collection_path.relative_to(_FOLDER).parts[0] in _PROGRAM_PARTS:
        return True
    is_test = collection_path.name.startswith("test_")
    return True if is_test and _imports_programs.search(collection_path.read_text("utf-8")) else None


@pytest.fixture(scope="session", autouse=True)
def no_programs(request: pytest.FixtureRequest) -> None:
    """Make a test in a quick run fail if it starts a program."""
    if request.config.getoption("--quick"):
        sys.addaudithook(_refuse_programs)


def _refuse_programs(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("subprocess.Popen", "os.posix_spawn", "os.fork"):
        pytest.fail(f"{event} {arguments[:1]}: a test in a --quick run must not start a program (tests/conftest.py)")


def _needs_programs(item: pytest.Item) -> bool:
    return any(map(is_need, item.iter_markers("skipif"))) or "postgres" in getattr(item, "fixturenames", ())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Record the lines that run from now on, here and in new processes, as covered by the file of this test."""
    if "COVERAGE_PROCESS_START" not in os.environ:
        return
    from coverage import Coverage

    file = item.nodeid.split("::")[0]
    if (measured := Coverage.current()) and os.environ.get("TEST_FILE") != file:
        measured.switch_context(file)
        os.environ["TEST_FILE"] = file  # pyproject.toml uses it as the context of new processes


def pytest_collection_finish() -> None:
    """Exclude the objects that exist now from later garbage collections, which makes these faster."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        config.hook.pytest_deselected(items=[item for item in items if _needs_programs(item)])
        items[:] = [item for item in items if not _needs_programs(item)]
        return  # in random order, so that tests that wait are spread over the run
    places = {file: place for place, file in enumerate(_ORDER)}
    items.sort(key=lambda item: places.get(item.path, len(places)))  # stable: the other files stay in random order


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHUNKWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Run one PostgreSQL server for all tests; see `needs_postgres`."""
    with running_postgres() as server:
        yield server


@pytest.fixture
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """Provide an empty database. Its kind is the indirect parameter of the test, from `KINDS`."""
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    async with database_of(request.param, tmp_path, postgres) as made:
        yield made
