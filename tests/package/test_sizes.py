"""Source files -> files and functions that are too long, and classes with too many attributes."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import chunkwise

ROOT = Path(__file__).parents[2]
PACKAGE = Path(chunkwise.__file__).parent  # installed or not
FOLDERS = ("tests", "benchmarks", "tools", "examples", "deploy", "fuzzing", "docs")
SUFFIXES = {".py", ".pyi", ".pyx", ".pxi", ".h", ".js", ".css", ".html", ".mjs", ".sh", ".md", ".conf"}
LIMITED_SUFFIXES = {".py", ".pyx", ".pxi", ".h"}

MAX_LINES = 450
MAX_LINES_OUTSIDE = 500
"""The limit of lines for files outside of the package, and for files in it that are not code, such as style sheets."""
MAX_FUNCTION_LINES = 60
MAX_ATTRIBUTES = 14

EXCEPTIONS: dict[str, str] = {
    "formats/parsing/scanner.py: Scanner": "a walk may stop at any byte: everything it knows there is kept",
}
"""A file, `file: function` or `file: Class` -> the reason why it may exceed its limit."""


class Size(NamedTuple):
    """A file, a function or a class, with its size."""

    name: str
    what: str
    size: int
    limit: int


def files(*folders: Path) -> list[Path]:
    """Return all files that are not generated."""
    return [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES]


def file_sizes(folder: Path, limit: int) -> Iterator[Size]:
    for path in files(folder):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        own = limit if path.suffix in LIMITED_SUFFIXES else MAX_LINES_OUTSIDE
        yield Size(path.relative_to(folder).as_posix(), "lines", lines, own)


def code_sizes(source: str, name: str) -> Iterator[Size]:
    """Return the sizes of the functions and classes in a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Size(f"{name}: {node.name}", "lines of a function", function_lines(node), MAX_FUNCTION_LINES)
        elif isinstance(node, ast.ClassDef):
            yield Size(f"{name}: {node.name}", "attributes", len(attributes(node)), MAX_ATTRIBUTES)


def function_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines from `def` to the end, without the docstring."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


def attributes(cls: ast.ClassDef) -> set[str]:
    """Return the names that are annotated in the body of a class, or assigned to `self` in its methods."""
    annotated = {
        node.target.id for node in cls.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    methods = [node for node in cls.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assigned = {
        node.attr
        for method in methods
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value)
    }
    setters = {method.name for method in methods if method.decorator_list}  # assigning to a property adds no attribute
    return (annotated | assigned) - setters


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def all_sizes() -> list[Size]:
    package = [*file_sizes(PACKAGE, MAX_LINES)]
    outside = [
        size._replace(name=f"{name}/{size.name}")
        for name in FOLDERS
        for size in file_sizes(ROOT / name, MAX_LINES_OUTSIDE)
    ]
    code = [
        size
        for path in sorted(PACKAGE.rglob("*.py"))
        for size in code_sizes(path.read_text(encoding="utf-8"), path.relative_to(PACKAGE).as_posix())
    ]
    return [*package, *outside, *code]


def too_large(sizes: list[Size]) -> dict[str, str]:
    return {size.name: f"{size.size} {size.what}, limit {size.limit}" for size in sizes if size.size > size.limit}


@pytest.fixture(scope="module")
def sizes() -> list[Size]:
    return all_sizes()


def test_nothing_exceeds_its_size_limit(sizes: list[Size]) -> None:
    assert len(sizes) > 1000
    found = too_large(sizes)
    assert {name: size for name, size in found.items() if name not in EXCEPTIONS} == {}
    assert EXCEPTIONS.keys() - found.keys() == set(), "these exceptions to the limits are not needed"


def test_file_over_the_line_limit_is_found(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "long.py").write_text("x = 1\n" * 451)
    (tmp_path / "page.html").write_text("x\n" * 451)
    (tmp_path / "short.py").write_text("x = 1\n" * 450)
    (tmp_path / "generated.c").write_text("\n" * 1000)
    assert too_large([*file_sizes(tmp_path, MAX_LINES)]) == {"deep/long.py": "451 lines, limit 450"}
    assert too_large([*file_sizes(tmp_path, MAX_LINES_OUTSIDE)]) == {}


def test_function_over_the_line_limit_is_found() -> None:
    docstring = '    """Say.\n' + "    more\n" * 100 + '    """\n'
    source = "\n".join(
        f"{kind} {name}():\n{text}" + "    x = 1\n" * lines
        for kind, name, text, lines in [
            ("def", "fits", "", 59),
            ("def", "long", "", 60),
            ("async def", "long_too", docstring, 60),
            ("async def", "documented", docstring, 59),
        ]
    )
    assert too_large([*code_sizes(source, "m.py")]) == {
        f"m.py: {name}": "61 lines of a function, limit 60" for name in ("long", "long_too")
    }


def test_class_with_too_many_attributes_is_found() -> None:
    def source(count: int) -> str:
        set_in_a_method = "".join(f"        self.a{number} = 0\n" for number in range(count))
        return f"""
class C:
    declared: int

    def __init__(self) -> None:
        self.declared = 1
        other.b = 1
        self.c.d = 1
    def start(self) -> None:
{set_in_a_method}
        self.prop = 1
        self.t1, (self.t2, *self.t3) = 1, (2, 3)
    @property
    def prop(self): ...
    @prop.setter
    def prop(self, value): ...
"""

    assert too_large([*code_sizes(source(10), "m.py")]) == {}
    assert too_large([*code_sizes(source(11), "m.py")]) == {"m.py: C": "15 attributes, limit 14"}
