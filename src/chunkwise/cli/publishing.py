"""Files and folders -> the files that ``chunkwise serve`` publishes, and why it does not publish the others."""

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from urllib.parse import quote

import rich_click as click

from chunkwise import UnknownFormat
from chunkwise.formats import Format, by_suffix


@dataclass(frozen=True)
class Published:
    """A file that is served, and its route.

    Attributes:
        route: the path of its URL, without quoting.
        file: the path of the file.
        format: the format that belongs to its suffix.
        folder: the published folder that holds the file; None if the user named the file itself.
        regular: False for a pipe, which is served only if the user named it.
    """

    route: str
    file: Path
    format: Format
    folder: Path | None
    regular: bool = True

    def is_there(self) -> bool:
        """Whether the file still exists, and has not become a folder, or a pipe that would block."""
        return os.path.isfile(self.file) if self.regular else self.file.exists()  # noqa: PTH113 - never raises


@dataclass(frozen=True)
class Unpublished:
    """The files of published folders that have no route.

    Attributes:
        reasons: the path of each file in its folder and why it is not served; at most ``MAX_UNPUBLISHED`` files.
        more: the number of files without a route that are not in ``reasons`` and not hidden.
        hidden: the number of hidden files. They are counted and not named, because their names may be private.
    """

    reasons: Sequence[tuple[str, str]] = ()
    more: int = 0
    hidden: int = 0


MAX_UNPUBLISHED = 100
_DATABASES = (".db", ".sqlite", ".sqlite3")


def find_files(paths: Sequence[Path]) -> list[Published]:
    """Return the files to publish: named files under their names, the files of a folder under their paths in it.

    It is an error if a named file does not exist, cannot be read or has no known suffix, or if two files have the same
    route.
    """
    found: dict[str, Published] = {}
    for path in paths:
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file() and not is_hidden(file, path))
            named = [(file.relative_to(path).as_posix(), file) for file in files]
        elif path.exists():
            if not os.access(path, os.R_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            named = [(path.name, path)]
        else:
            raise FileNotFoundError(errno.ENOENT, "no such file or folder", str(path))
        for name, file in named:
            try:
                row = by_suffix(file.name)
            except UnknownFormat:
                if path.is_dir():
                    continue
                if file.suffix.lower() in _DATABASES:
                    msg = f"{file.name!r} is a database: use sqlite:///{path} to serve its tables"
                    raise UnknownFormat(msg) from None
                raise
            route = f"/{name}"
            if route in found:
                msg = f"{found[route].file} and {file} would both be {route}: publish the folder that holds both"
                raise click.UsageError(msg)
            found[route] = Published(route, file, row, path if path.is_dir() else None, file.is_file())
    if not found:
        raise UnknownFormat(
            f"nothing to publish in {', '.join(map(str, paths))}: expected files that end in .json, .ndjson, .csv, ..."
        )
    return [found[route] for route in sorted(found)]


def find_unpublished(paths: Sequence[Path]) -> Unpublished:
    """Return the files in these folders that `find_files` leaves out."""
    count = hidden = 0

    def unpublished() -> Iterator[tuple[str, str]]:
        nonlocal count, hidden
        for folder in paths:
            for file in folder.rglob("*") if folder.is_dir() else ():
                if file.is_dir():
                    continue
                if _has_hidden_name(file, folder):
                    hidden += 1
                elif reason := _reason_against(file, folder):
                    count += 1
                    yield file.relative_to(folder).as_posix(), reason

    # nsmallest() keeps at most MAX_UNPUBLISHED names in memory, however many files the folders have.
    listed = nsmallest(MAX_UNPUBLISHED, unpublished())
    return Unpublished(listed, count - len(listed), hidden)


def _reason_against(file: Path, folder: Path) -> str | None:
    if not file.exists():
        return "a link to a file that does not exist"
    if is_hidden(file, folder):
        return "a link to a place outside the folder"
    if not file.is_file():
        return "not a regular file"
    if file.suffix.lower() in _DATABASES:
        return "a database: name it as sqlite:///PATH to serve its tables"
    try:
        by_suffix(file.name)
    except UnknownFormat:
        return f"no format has the suffix {file.suffix}" if file.suffix else "its name has no suffix"
    return None


def is_hidden(file: Path, folder: Path) -> bool:
    """Whether a file or one of its folders has a hidden name, or is a link to a place outside the published folder."""
    return _has_hidden_name(file, folder) or not file.resolve().is_relative_to(folder.resolve())


def _has_hidden_name(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def url_of(route: str) -> str:
    """Return a route as the path of a URL, with its special characters quoted."""
    return quote(os.fsencode(route))
