"""A path as text -> its parts.

Must not know bytes, formats or scanners. The grammar is ijson's, so that its users feel at home: names joined by ``.``,
``item`` for the elements of an array (or a member of that name), ``*`` for any member of an object.
"""

from __future__ import annotations

PathLike = str | tuple[str, ...]
"""``"users.item.name"``, or a tuple of parts for names that contain dots: ``("users", "item", "first.name")``."""


def parse_path(path: PathLike) -> tuple[str, ...] | None:
    """Return the parts of a path, or None for ``""``: the elements of a root array, or else the root itself.

    The empty tuple is the root as one value, also if it is an array: our choice, because ijson has that meaning for
    ``""``, and a stream of one item is rarely what one wants from an array.
    """
    if isinstance(path, str):
        return tuple(path.split(".")) if path else None
    if all(isinstance(part, str) for part in path):
        return tuple(path)
    raise TypeError(f"a path is a string of names joined by '.', or a tuple of names, got {path!r}")


def path_text(parts: tuple[str, ...] | None) -> str:
    """Return the parts as people write them."""
    return ".".join(parts or ())
