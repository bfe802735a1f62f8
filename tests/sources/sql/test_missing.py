"""sources/sql: the error if SQLAlchemy is not installed."""

import subprocess
import sys


def test_error_without_sqlalchemy_names_extra() -> None:
    code = "import sys; sys.modules['sqlalchemy'] = None\nfrom chunkwise.sources import sql"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: SQL sources need the extra 'sql': pip install 'chunkwise[sql]'"
    )
