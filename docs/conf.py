"""How Sphinx builds these pages: `make docs`, with warnings as errors.

Prose is Markdown (MyST). The command line's reference comes from the application itself and the API's from the
docstrings, so that neither can disagree with the code.
"""

import sys
from importlib.metadata import version as _version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "kleiber"
author = "the kleiber authors"
copyright = "the kleiber authors; MIT licence"
version = release = _version("kleiber")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "verbs",
    "rooms",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "kleiber"
html_static_path = ["_static"]
html_css_files = ["kleiber.css"]
html_show_sourcelink = False
html_copy_source = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

nitpicky = True
PRIVATE = ("model.dnabert2.Bert", "model.shortconv.ShortConvBert", "scaling.numbers.Parsed", "study.strict.Tree")
nitpick_ignore = [
    ("py:class", "kleiber.scaling.laws.T"),  # a type variable
    *(("py:class", f"kleiber.{name}") for name in PRIVATE),  # in signatures, and on no page
]
suppress_warnings = ["ref.python"]  # attributes of one name in two classes, which napoleon's fields point at
nitpick_ignore_regex = [(r"py:.*", r"(?!kleiber\.).*")]  # other packages' names; their inventories are on the network
default_role = "code"  # docstrings write `names` in single backticks
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
