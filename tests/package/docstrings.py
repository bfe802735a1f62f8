"""A public function or class -> the parts missing in its docstring, one sentence each.

Reads the source text (ast), because only it shows the exceptions raised. Sections are Google's: "Args:",
"Attributes:", "Raises:".
"""

import ast
import builtins
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Sections = dict[str, dict[str, str]]

UNITS = re.compile(
    r"\b(bytes?|seconds|milliseconds|items?|rows|lines|index|status|port|times|often|long|connections?|arrays)\b"
)
"""The units of numbers: one of them has to be in the name or description of a number."""

TOO_WIDE = (Exception, BaseException)
"""Classes that are too general to document an exception."""


def sections_of(docstring: str) -> Sections:
    """Return the texts of "Args:", "Attributes:" and "Raises:" by section and name; several names may share a text."""
    found: Sections = {}
    section: dict[str, str] | None = None
    names: list[str] = []
    for line in inspect.cleandoc(docstring).splitlines():
        if line and not line.startswith(" "):
            section = found.setdefault(line[:-1], {}) if line in ("Args:", "Attributes:", "Raises:") else None
        elif section is not None and (match := re.match(r"^    (\*{0,2}\w+(?:, \w+)*): +(.+)$", line)):
            names = match[1].lstrip("*").split(", ")
            section.update(dict.fromkeys(names, match[2]))
        elif section is not None and line.strip():
            section.update({name: f"{section[name]} {line.strip()}" for name in names})
    return found


def parameters_of(node: FunctionNode, *, method: bool) -> dict[str, str]:
    """Return each parameter's name and the text of its annotation."""
    arguments = node.args
    listed = [*arguments.posonlyargs, *arguments.args]
    static = any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in node.decorator_list)
    listed = listed[1:] if method and not static else listed
    listed += [*filter(None, [arguments.vararg]), *arguments.kwonlyargs, *filter(None, [arguments.kwarg])]
    return {each.arg: ast.unparse(each.annotation) if each.annotation else "" for each in listed}


def attributes_of(node: ast.ClassDef) -> dict[str, str]:
    """Return the public attributes of the class and of `__init__`, each with the text of its annotation."""
    found: dict[str, str] = {}
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            found[each.target.id] = ast.unparse(each.annotation)
        elif isinstance(each, ast.Assign):
            found.update({target.id: "" for target in each.targets if isinstance(target, ast.Name)})
    made = methods_of(node).get("__init__")
    for part in ast.walk(made) if made else ():
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store) and ast.unparse(part.value) == "self":
            found.setdefault(part.attr, "")
    return {name: annotation for name, annotation in found.items() if not name.startswith("_")}


def methods_of(node: ast.ClassDef) -> dict[str, FunctionNode]:
    return {each.name: each for each in node.body if isinstance(each, FunctionNode)}


def raised_in(node: ast.AST, called: Mapping[str, FunctionNode], seen: frozenset[str] = frozenset()) -> set[str]:
    """Return the names of exceptions raised by a function and by those it calls in the same file.

    Args:
        node: a function.
        called: private functions of the same file by the text of the call: "_check", "self._refuse", "_Checks".
        seen: functions already visited.
    """
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Raise) and each.exc is not None:
            what = each.exc.func if isinstance(each.exc, ast.Call) else each.exc
            name = ast.unparse(what)
            if name[0].isupper() or "." in name:
                found.add(name)
        elif isinstance(each, ast.Call) and (name := ast.unparse(each.func)) in called and name not in seen:
            found |= raised_in(called[name], called, seen | {name})
    return found


def exception(name: str, names: Mapping[str, Any]) -> type[BaseException] | None:
    """Return the class of that name in a module, or None."""
    kind = names.get(name, getattr(builtins, name, None))
    return kind if isinstance(kind, type) and issubclass(kind, BaseException) else None


def lacking_of_function(
    node: FunctionNode, names: Mapping[str, Any], *, cls: ast.ClassDef | None = None, file: ast.Module | None = None
) -> Iterator[str]:
    """Return the parts missing in the docstring of a function; ``names`` are the exceptions it can see."""
    text = ast.get_docstring(node)
    if not text:
        yield "has no docstring"
        return
    sections = sections_of(text)
    listed = sections.get("Args", {})
    parameters = parameters_of(node, method=cls is not None)
    if [*listed] != [*parameters]:
        yield f"names the arguments {', '.join(listed) or 'none'}; it has {', '.join(parameters) or 'none'}"
    yield from _without_unit(parameters, listed)
    yield from _lacking_raises(raised_in(node, _called(file, cls)), sections, names)


def lacking_of_class(
    node: ast.ClassDef, names: Mapping[str, Any], *, inherited: Sections | None = None, file: ast.Module | None = None
) -> Iterator[str]:
    """Return the parts missing in the docstrings of a class and its public methods.

    Args:
        node: the class.
        names: the exceptions that its module can see.
        inherited: the sections of its bases.
        file: its module.
    """
    text = ast.get_docstring(node)
    if not text:
        yield "has no docstring"
        return
    sections = sections_of(text)
    listed = {**sections.get("Attributes", {}), **sections.get("Args", {})}
    known = {**{name: "" for section in (inherited or {}).values() for name in section}, **listed}
    methods = methods_of(node)
    made = methods.get("__init__")
    parameters = parameters_of(made, method=True) if made else {}
    attributes = attributes_of(node)
    if lacking := [name for name in {**attributes, **parameters} if name not in known]:
        yield f"does not name {', '.join(lacking)}"
    if odd := [name for name in listed if name not in attributes and name not in parameters and name not in methods]:
        yield f"names {', '.join(odd)}, which it has not"
    yield from _without_unit({**attributes, **parameters}, listed)
    raising: set[str] = set()
    for name in ("__init__", "__post_init__"):
        if name in methods:
            raising |= raised_in(methods[name], _called(file, node))
    yield from _lacking_raises(raising, sections, names)
    for name, method in methods.items():
        if not name.startswith("_") or name == "__call__":
            for each in lacking_of_function(method, names, cls=node, file=file):
                yield f"{name} {each}"


def _called(file: ast.Module | None, cls: ast.ClassDef | None) -> dict[str, FunctionNode]:
    """Return the private functions that a call may reach in the same file, by the text of the call."""
    called = {each.name: each for each in (file.body if file else ()) if isinstance(each, FunctionNode)}
    for each in file.body if file else ():
        if isinstance(each, ast.ClassDef) and (made := methods_of(each).get("__init__")):
            called[each.name] = made
    own = {f"self.{name}": each for name, each in (methods_of(cls) if cls else {}).items()}
    return {name: each for name, each in {**called, **own}.items() if name.removeprefix("self.").startswith("_")}


def _without_unit(parameters: Mapping[str, str], listed: Mapping[str, str]) -> Iterator[str]:
    for name, annotation in parameters.items():
        number = re.search(r"\b(int|float)\b", annotation) and "[" not in annotation
        if number and name in listed and not UNITS.search(f"{name.replace('_', ' ')} {listed[name]}"):
            yield f"does not say of what {name} is the number"


def _lacking_raises(raising: set[str], sections: Sections, names: Mapping[str, Any]) -> Iterator[str]:
    raised = {name: exception(name, names) for name in sections.get("Raises", {})}
    if odd := [name for name, kind in raised.items() if kind is None]:
        yield f"says that it raises {', '.join(odd)}, which is no exception"
    kinds = tuple(kind for kind in raised.values() if kind is not None and kind not in TOO_WIDE)
    for name in sorted(raising):
        kind = exception(name, names)
        if kind is not None and not issubclass(kind, kinds):
            yield f"does not say that it raises {name}"
