"""errors.py: the tree in its docstring matches the classes."""

import builtins
import re
from typing import NamedTuple

from chunkwise import errors


class Drawn(NamedTuple):
    """One class in the drawing.

    Attributes:
        name: the name of the class.
        depth: the number of classes above it.
        builtin: the built-in exception that it inherits from, or "".
        meaning: the description of the class.
    """

    name: str
    depth: int
    builtin: str
    meaning: str


_LINE = re.compile(r"^((?:│   |    )*(?:├── |└── )?)(\w+)(?:\((\w+)\))?(?: +(.*))?$")


def drawn(docstring: str) -> list[Drawn]:
    """Return the classes in the drawing after "::", from top to bottom."""
    block = docstring.split("::\n\n")[1]
    found = []
    for line in block.splitlines():
        match = _LINE.match(line.removeprefix("    "))
        if match:
            found.append(Drawn(match[2], len(match[1]) // 4, match[3] or "", match[4] or ""))
    return found


def parents(tree: list[Drawn]) -> dict[str, str]:
    """Return the base class of each class: the last class before it with a smaller depth."""
    above: dict[str, str] = {}
    path: list[str] = []
    for each in tree:
        del path[each.depth :]
        above[each.name] = path[-1] if path else "Exception"
        path.append(each.name)
    return above


def test_drawn_error_tree_matches_classes() -> None:
    tree = drawn(errors.__doc__ or "")
    classes = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and kind.__module__ == errors.__name__
    }
    assert [each.name for each in tree] == [*classes], "the classes must also have the same order"
    above = parents(tree)
    for each in tree:
        kind = classes[each.name]
        own, *builtin = kind.__bases__
        assert own.__name__ == above[each.name], each.name
        assert [base.__name__ for base in builtin] == [each.builtin] * bool(each.builtin), each.name
        assert all(base is getattr(builtins, base.__name__) for base in builtin), each.name
        assert each.meaning or each.depth == 0, f"{each.name} has no description"


def test_drawing_is_parsed_correctly() -> None:
    text = """Words.

    ::

        Root
        ├── One(TypeError)        words here
        │   ├── Two               and here
        │   └── Three(EOFError)   and
        └── Four                  there
    """.replace("\n    ", "\n")
    tree = drawn(text)
    assert [(each.name, each.depth, each.builtin) for each in tree] == [
        ("Root", 0, ""),
        ("One", 1, "TypeError"),
        ("Two", 2, ""),
        ("Three", 2, "EOFError"),
        ("Four", 1, ""),
    ]
    assert parents(tree) == {"Root": "Exception", "One": "Root", "Two": "One", "Three": "One", "Four": "Root"}
