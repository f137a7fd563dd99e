"""How Sphinx builds these pages: strict, and without the network."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

import resilience  # noqa: E402 - found only now

project = "region-breaker"
author = "The region-breaker authors"
project_copyright = author
version = release = resilience.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "state_diagram",
]
exclude_patterns = ["_build"]
default_role = "code"  # what docstrings put between single backticks
nitpicky = True
# Types of Python and of other packages have their own documentation, which is not fetched here.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!resilience\b).*"),
    (r"py:.*", r"resilience\.\w+\.[FLPT]"),  # type variables
]
nitpick_ignore = [
    ("py:class", "resilience.decorator.RegionDecorator"),  # only says that types are kept
    ("py:class", "resilience.retry.RetryDecorator"),  # the same
    ("py:class", "resilience.sharing.Sharing"),  # what RedisSharing is
    ("py:class", "resilience.integrations.rabbitmq.hold.HoldDecorator"),  # the same
    ("py:class", "resilience.registry.Settings"),  # the keywords that the text lists
]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 70
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"region-breaker {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "tango"
pygments_dark_style = "monokai"
