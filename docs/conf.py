"""The pages of this folder -> a site: `make docs`. Warnings are errors there."""

import importlib.metadata

project = "chunkwise"
release = importlib.metadata.version("chunkwise")
html_title = f"chunkwise {release}"
html_theme = "furo"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

default_role = "code"  # `name` in a docstring is code, as it is in Markdown
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures of a name, a default and no more: the sentences below say what they take
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
# Errors of Python and of aiohttp, whose own pages no network is needed for; and a signal between our packages.
nitpick_ignore_regex = [("py:exc", r"Exception|(OS|Type|Value|Lookup|Assertion|Client)Error|LivePart")]
