"""The pages of this folder -> a site, built by `make docs`, where warnings are errors."""

import importlib.metadata

project = "chunkwise"
release = importlib.metadata.version("chunkwise")
html_title = f"chunkwise {release}"
html_theme = "furo"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

default_role = "code"  # `name` in a docstring is code, as in Markdown
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the descriptions of the parameters say what they take
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
# Errors of Python and aiohttp, which are not linked so that no network is needed, and an internal signal.
nitpick_ignore_regex = [("py:exc", r"Exception|(OS|Type|Value|Lookup|Assertion|Client)Error|LivePart")]
