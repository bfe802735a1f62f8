"""Fill a folder with real data files for the demo and the tests, from the packages `vega-datasets` of PyPI and npm.

Usage: `python tools/real_data.py FOLDER`. A second run fetches only missing files.
The script copies files of `vega_datasets` and never imports it, because the import needs pandas.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path

FROM_PYPI = ("airports.csv", "barley.json", "cars.json", "iris.json", "ohlc.json", "seattle-weather.csv")
"""Files of the PyPI package, which requirements/data.txt pins by its hash."""

NPM_PACKAGE = "vega-datasets@3.2.1"
MOVIES = "movies.json"
MOVIES_SHA256 = "e63c499759e3b07b49563e036f55290f87feb56def8703ec049ca305ab1523d3"
NPM_SECONDS = 90


class LeftOutError(Exception):
    """The file movies.json cannot be fetched; the message says why."""


def copy_from_pypi_package(folder: Path) -> None:
    """Copy the files that `FROM_PYPI` names from the installed PyPI package `vega-datasets` into `folder`.

    Raises:
        PackageNotFoundError: `vega-datasets` is not installed (requirements/data.txt).
        StopIteration: the installed version does not contain one of the files.
    """
    shipped = metadata.files("vega-datasets") or []
    for name in FROM_PYPI:
        source = Path(str(next(path.locate() for path in shipped if path.parts[-2:] == ("_data", name))))
        target = folder / name
        if not target.exists() or target.read_bytes() != source.read_bytes():
            shutil.copyfile(source, target)


def fetch_movies(folder: Path) -> None:
    """Copy movies.json of the npm package into `folder`, unless `folder` has it already.

    Raises:
        LeftOutError: npm or the network is missing, or the file has another hash than expected.
    """
    target = folder / MOVIES
    if target.exists() and hashlib.sha256(target.read_bytes()).hexdigest() == MOVIES_SHA256:
        return
    target.unlink(missing_ok=True)
    npm = shutil.which("npm")
    if npm is None:
        raise LeftOutError("npm is not on the PATH")
    with tempfile.TemporaryDirectory() as temporary:
        command = [npm, "pack", "--silent", NPM_PACKAGE]
        try:
            subprocess.run(command, cwd=temporary, check=True, capture_output=True, timeout=NPM_SECONDS)
            archive = next(Path(temporary).glob("*.tgz"))
            with tarfile.open(archive) as tar:
                member = tar.extractfile(f"package/data/{MOVIES}")
                data = member.read() if member else b""
        except subprocess.TimeoutExpired:
            raise LeftOutError(f"npm took longer than {NPM_SECONDS} s") from None
        except subprocess.CalledProcessError as error:
            raise LeftOutError(f"`npm pack {NPM_PACKAGE}` ended with status {error.returncode}") from error
        except (StopIteration, OSError, KeyError, tarfile.TarError) as error:
            raise LeftOutError(f"{NPM_PACKAGE} could not be unpacked: {error!r}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != MOVIES_SHA256:
        raise LeftOutError(f"{NPM_PACKAGE} has a changed movies.json: SHA-256 is {digest}, expected {MOVIES_SHA256}")
    target.write_bytes(data)


def main(arguments: list[str]) -> int:
    """Fill the folder; return the exit status, which is 0 even if movies.json cannot be fetched."""
    if len(arguments) != 1:
        print("usage: python tools/real_data.py FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    copy_from_pypi_package(folder)
    try:
        fetch_movies(folder)
    except LeftOutError as error:
        print(f"{MOVIES} was left out of {folder}: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
