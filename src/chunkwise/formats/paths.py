"""A path as text -> its parts: names joined by ``.``, in ijson's grammar.

``item`` selects the elements of an array (or a member of that name), ``*`` any member of an object.
"""

PathLike = str | tuple[str, ...]
"""``"users.item.name"``, or a tuple of parts for names that contain dots: ``("users", "item", "first.name")``."""


def parse_path(path: PathLike) -> tuple[str, ...] | None:
    """Return the parts of a path, or None for ``""``: the elements of a root array, or else the root itself.

    The empty tuple is the root as one value, even if it is an array. (In ijson, ``""`` means that.)
    """
    if isinstance(path, str):
        return tuple(path.split(".")) if path else None
    if all(isinstance(part, str) for part in path):
        return tuple(path)
    raise TypeError(f"a path is a string of names joined by '.', or a tuple of names, got {path!r}")
