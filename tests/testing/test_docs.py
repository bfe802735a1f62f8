"""The page about testing is a project whose tests pass; `chunkwise.testing` works without pytest."""

import os
import re
import subprocess
import sys
from pathlib import Path

import chunkwise

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "test-an-endpoint.md"
SRC = Path(chunkwise.__file__).parents[1]


def run(*arguments: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_examples_are_tests_that_pass(tmp_path: Path) -> None:
    page = PAGE.read_text()
    files = re.findall(r"```python\n# (\S+)\n(.*?)```", page, re.DOTALL)
    assert len(files) == page.count("```python")
    for name, text in files:
        (tmp_path / name).write_text(text)
    settings = ["asyncio_mode = auto", "asyncio_default_fixture_loop_scope = function", "filterwarnings = error"]
    (tmp_path / "pytest.ini").write_text("\n".join(["[pytest]", "pythonpath = .", *settings]))
    said = run("-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", folder=tmp_path)
    tests = re.findall(r"^async def (test_\w+)", page, re.MULTILINE)
    assert tests
    for name in tests:
        assert re.search(rf"^PASSED .*{name}", said, re.MULTILINE), said


def test_testing_package_works_without_pytest(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['pytest'] = sys.modules['pytest_asyncio'] = None; import chunkwise.testing"
    run("-c", hidden, folder=tmp_path)
