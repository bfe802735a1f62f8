"""The package's own files -> pages to read at ``/docs/``, ``/source/`` and ``/code/{lane}``, always as plain text.

A lane is the part of the demo page that shows one route, and ``/code/{lane}`` is the server code of that route. Only
files found when the application is made are served. A wheel holds the source and the README; a clone also holds
the pages of ``docs/``.
"""

import ast
import html
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web

import chunkwise
from chunkwise.demo import endpoints

# The pages load nothing from other sites, and cannot be shown inside a frame of any page.
POLICY: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'self'; img-src data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}
LANES: Mapping[str, tuple[Callable[..., Any], ...]] = {
    "non-chunked": (endpoints.non_chunked,),
    "chunked": (endpoints.chunked,),
    "json": (endpoints.json_array, endpoints.users),
    "nested": (endpoints.nested, endpoints.users),
    "sse": (endpoints.sse, endpoints.users),
    "ws": (endpoints.websocket,),
}
"""The functions that make the response of each lane of the page."""

_ABOUT_PACE = """\
# Pace yields 0, 1, 2, ... with a pause between two.
# The query of the URL can change the number and the pause.
"""
_SERVER = """app = web.Application()
app.add_routes(routes)
web.run_app(app)
"""

_PACKAGE = Path(chunkwise.__file__).parent
_CLONE = _PACKAGE.parents[1]


def reading_routes() -> list[web.RouteDef]:
    """Return the routes that serve the documentation, the package's source, and the code of the demo's routes."""
    source = {path.relative_to(_PACKAGE).as_posix(): path for path in sorted(_PACKAGE.rglob("*.py"))}
    docs = _docs()
    readme = _readme()

    async def docs_page(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name == "README.md":
            return _text(readme)
        if name:
            return _file(docs, name)
        titles = {name: _title_of(path) for name, path in docs.items()}
        about = "The pages in this installation, as plain text."
        return _list("Documentation", about, {"README.md": "README", **titles})

    async def source_page(request: web.Request) -> web.Response:
        if name := request.match_info["name"]:
            return _file(source, name)
        return _list("Source", "The Python modules of this installation.", {name: name for name in source})

    return [
        web.get("/docs/{name:.*}", docs_page),
        web.get("/source/{name:.*}", source_page),
        web.get("/code/{name}", _code),
    ]


def code_of(lane: str) -> str:
    """Return a complete program that serves one route of the demo: its functions, their imports and a server.

    ``lane`` is the name of the route's part of the demo page.
    """
    functions = "\n\n".join(inspect.getsource(function) for function in LANES[lane])
    used = {node.id for node in ast.walk(ast.parse(functions + _SERVER)) if isinstance(node, ast.Name)}
    imports = "\n".join(_imports_of(used))
    return f"{_ABOUT_PACE}{imports}\n\nroutes = web.RouteTableDef()\n\n\n{functions}\n\n{_SERVER}"


def _imports_of(used: AbstractSet[str]) -> Iterator[str]:
    """Yield the import statements of the module `endpoints`, reduced to the names in ``used``."""
    group = ""
    for line in inspect.getsource(endpoints).splitlines():
        match = re.fullmatch(r"(import|from \S+ import) (.+)", line)
        if match and (names := [name for name in match[2].split(", ") if name in used]):
            yield f"{group}{match[1]} {', '.join(names)}"
            group = ""
        elif not line:
            group = "\n"


async def _code(request: web.Request) -> web.Response:
    lane = request.match_info["name"]
    if lane not in LANES:
        raise web.HTTPNotFound(text=f"no code for {lane!r}, expected one of {', '.join(LANES)}")
    return _text(code_of(lane))


def _docs() -> dict[str, Path]:
    """Return the pages of ``docs/`` in a clone, in the order of ``docs/index.md``; none in an installed package."""
    folder = _CLONE / "docs"
    index = folder / "index.md"
    if _PACKAGE.parent.name != "src" or not index.is_file():
        return {}
    pages = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.md")) if path != index}
    contents = index.read_text(encoding="utf-8")
    listed = re.findall(r"^(\S+?)(?:\.md)?$", contents, re.MULTILINE)
    first = [f"{name}.md" for name in listed if f"{name}.md" in pages]
    return {name: pages[name] for name in dict.fromkeys([*first, *pages])}


def _readme() -> str:
    file = _CLONE / "README.md"
    if _PACKAGE.parent.name == "src" and file.is_file():
        return file.read_text(encoding="utf-8")
    try:
        return metadata("chunkwise")["Description"]
    except PackageNotFoundError:
        return chunkwise.__doc__ or ""


def _file(files: Mapping[str, Path], name: str) -> web.Response:
    if name not in files:
        raise web.HTTPNotFound(text=f"no file {name[:80]!r} here")
    return _text(files[name].read_text(encoding="utf-8"))


def _text(text: str) -> web.Response:
    return web.Response(text=text, headers={"X-Content-Type-Options": "nosniff"})


def _title_of(page: Path) -> str:
    heading = re.search(r"^# +(.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return heading[1].replace("`", "") if heading else page.name


def _list(title: str, what: str, labels: Mapping[str, str]) -> web.Response:
    items = "\n".join(f'<li><a href="{quote(name)}">{html.escape(label)}</a></li>' for name, label in labels.items())
    text = _LIST.replace("TITLE", title).replace("WHAT", what).replace("ITEMS", items)
    return web.Response(text=text, content_type="text/html", headers=POLICY)


_LIST = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>TITLE of chunkwise</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="../page/theme.css">
</head>
<body>
<header class="bar">
<a class="brand" href="../">chunkwise</a>
<nav aria-label="About chunkwise"><a href="../docs/">Docs</a> <a href="../source/">Source</a></nav>
</header>
<main>
<h1>TITLE</h1>
<p class="lede">WHAT</p>
<ul>
ITEMS
</ul>
</main>
</body>
</html>
"""
