"""Build these pages with Sphinx: warnings are errors, and nothing is fetched from the network."""

import sys
import tomllib
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

import resilience  # noqa: E402 - needs the path set above

project = "region-breaker"
author = "The region-breaker authors"
project_copyright = author
version = release = resilience.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "client_table",
    "llms_txt",
    "state_diagram",
]
exclude_patterns = ["_build"]
default_role = "code"  # docstrings put code between single backticks
nitpicky = True
# The types of Python and of other packages are documented elsewhere.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!resilience\b).*"),
    # Type variables.
    (r"py:.*", r"resilience\.[\w.]+\.[FLPT]"),
    # Protocols of decorators that keep a function's types, and what the pages describe in words.
    (r"py:class", r"resilience\.[\w.]+\.(RegionDecorator|RetryDecorator|HoldDecorator)"),
    (r"py:class", r"resilience\.[\w.]+\.(HasLoop|HasFirst|Retried)"),
    (r"py:class", r"resilience\.[\w.]+\.(StructuredLogger|Situation)"),
    (r"py:class", r"resilience\.[\w.]+\.(Settings|Sharing|Circuit|Classifiers|Subscribers)"),
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
html_js_files = [("copy-button.js", {"defer": "defer"})]
# The address of the repository is in one place.
project_file = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))
source_url = project_file["project"]["urls"]["Source"]
html_theme_options = {
    "source_view_link": f"{source_url}/blob/main/docs/{{filename}}",
    "source_edit_link": f"{source_url}/edit/main/docs/{{filename}}",
}
html_copy_source = False
html_show_sphinx = False
pygments_style = "tango"
pygments_dark_style = "monokai"
