"""Docstrings of public names describe arguments, units and exceptions."""

import ast
import importlib
import inspect
import sys
from typing import Any

import aiohttp

from tests.package.docstrings import Sections, lacking_of_class, lacking_of_function, sections_of
from tests.package.public_names import GIVEN, PUBLIC
from tests.tables import check_rows, named

NAMES = sorted({f"{module}.{name}" for module, names in PUBLIC.items() for name in names} | set(GIVEN))


def public(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


def definition(thing: Any) -> tuple[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, ast.Module]:
    """Return the definition of a function or class, and its file; of overloads the last one."""
    module = inspect.getmodule(inspect.unwrap(thing))
    assert module is not None
    file = ast.parse(inspect.getsource(module))
    found = [
        each
        for each in file.body
        if isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and each.name == thing.__name__
    ]
    return found[-1], file


def bases_of(kind: type) -> Sections:
    """Return the sections in the docstrings of base classes in chunkwise."""
    found: Sections = {}
    for base in kind.__mro__[1:]:
        if base.__module__.startswith("chunkwise"):
            for section, names in sections_of(base.__doc__ or "").items():
                found.setdefault(section, {}).update(names)
    return found


def exceptions() -> dict[str, Any]:
    """Return the exceptions that a docstring may name: those of aiohttp and of chunkwise."""
    ours = [module for name, module in sys.modules.items() if name.startswith("chunkwise")]
    named = {name: kind for module in (aiohttp, *ours) for name, kind in vars(module).items()}
    return {name: kind for name, kind in named.items() if isinstance(kind, type) and issubclass(kind, BaseException)}


def lacking(thing: Any) -> list[str]:
    node, file = definition(thing)
    seen = exceptions()
    if isinstance(node, ast.ClassDef):
        return [*lacking_of_class(node, seen, inherited=bases_of(thing), file=file)]
    return [*lacking_of_function(node, seen, file=file)]


def test_public_names_are_documented_completely() -> None:
    def check(name: str) -> None:
        thing = public(name)
        if callable(thing) and not name.endswith(".fault_proxy"):
            assert lacking(thing) == []
        else:  # a table, or a fixture
            assert name.rpartition(".")[2] in (importlib.import_module(name.rpartition(".")[0]).__doc__ or "")

    check_rows(named(NAMES), check)


ARGS = "\n\n    Args:\n        {}\n    "
RAISES = "\n\n    Raises:\n        {}\n    "
ATTRIBUTES = "\n\n    Attributes:\n        {}\n    "


def function(signature: str, more: str = "", body: str = "return 1", head: str = "f") -> str:
    """The code of a function with a docstring."""
    return f'def {head}({signature}):\n    """Do.{more}"""\n    {body}\n'


def class_(more: str = "", body: str = "") -> str:
    """The code of a class with a docstring."""
    return f'class C:\n    """It.{more}"""\n    {body}\n'


UNTOLD = "does not say that it raises "
COMPLAINTS = [
    ("def f(a): return a", "has no docstring"),
    (function("a"), "names the arguments none; it has a"),
    (function("a, *, b", ARGS.format("b: it.\n        a: it.")), "names the arguments b, a; it has a, b"),
    (function("", ARGS.format("a: it.")), "names the arguments a; it has none"),
    (function("size: int", ARGS.format("size: it.")), "does not say of what size is the number"),
    (function("", "", "raise ValueError"), UNTOLD + "ValueError"),
    (function("", "", "_g()") + function("", "", "raise ValueError('no')", "_g"), UNTOLD + "ValueError"),
    (function("", RAISES.format("TypeError: no."), "if f: raise KeyError from None"), UNTOLD + "KeyError"),
    (function("", RAISES.format("Exception: all."), "raise KeyError"), UNTOLD + "KeyError"),
    (function("", RAISES.format("Nothing: no.")), "says that it raises Nothing, which is no exception"),
    ("class C: pass", "has no docstring"),
    (class_("", 'a: str = ""'), "does not name a"),
    (class_("", "def __init__(self, b): self.a = b"), "does not name a, b"),
    (class_(ATTRIBUTES.format("a: it.")), "names a, which it has not"),
    (class_(ATTRIBUTES.format("a: it."), "a: float"), "does not say of what a is the number"),
    (class_("", "def __init__(self): raise KeyError"), UNTOLD + "KeyError"),
    (class_("", "def do(self): return 1"), "do has no docstring"),
    (class_("", 'def do(self, a):\n        "Do."'), "do names the arguments none; it has a"),
]


def lacking_in(code: str) -> list[str]:
    """Return the parts missing in the first definition of a piece of code."""
    file = ast.parse(code)
    node = file.body[0]
    if isinstance(node, ast.ClassDef):
        return [*lacking_of_class(node, {}, file=file)]
    assert isinstance(node, ast.FunctionDef)
    return [*lacking_of_function(node, {}, file=file)]


def test_missing_docstring_parts_are_reported() -> None:
    def check(code: str, complaint: str) -> None:
        assert lacking_in(code)[0] == complaint

    check_rows({code: (code, complaint) for code, complaint in COMPLAINTS}, check)


def test_exceptions_of_private_methods_are_found() -> None:
    calls = 'def do(self):\n        "Do."\n        self._no()\n\n    def _no(self): raise KeyError'
    assert lacking_in(class_("", calls)) == [f"do {UNTOLD}KeyError"]


WHOLE = '''
class C:
    """It.

    Args:
        a: it, in seconds.

    Attributes:
        b: how many items arrived.

    Raises:
        LookupError: no.
    """

    def __init__(self, a: float) -> None:
        if not a:
            raise KeyError
        self.b: int = 0
        self._c = a

    def do(self, *more: str, **limits: int) -> None:
        """Do.

        Args:
            more: words,
                and more of them.
            limits: bytes.

        Raises:
            ValueError, TypeError: no.
        """
        raise (UnicodeDecodeError if more else TypeError)
'''


def test_complete_docstring_passes() -> None:
    assert lacking_in(WHOLE) == []
