"""A path such as ``users.item.name`` -> its parts. A path is names joined by dots, as in the library ijson.

The part ``item`` selects the elements of an array, or the member named ``item`` of an object. The part ``*`` selects
every member of an object.
"""

PathLike = str | tuple[str, ...]
"""A path such as ``"users.item.name"``. Use a tuple if a name contains a dot: ``("users", "item", "first.name")``."""


def parse_path(path: PathLike) -> tuple[str, ...] | None:
    """Return the parts of a path, or None for ``""``.

    The path ``""`` selects the elements if the document is an array, and otherwise the document itself. The path ``()``
    always selects the document as one value, as ``""`` does in ijson.
    """
    if isinstance(path, str):
        return tuple(path.split(".")) if path else None
    if all(isinstance(part, str) for part in path):
        return tuple(path)
    raise TypeError(f"path must be a string of names joined by '.', or a tuple of names, got {path!r}")
