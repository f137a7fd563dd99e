"""The Python of the documentation's pages, for tests that run what a page shows."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def python_blocks(page):
    """Return the blocks of Python on a page, in their order.

    Args:
        page: The page, as a path below docs/.
    """
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run_page(page, *, without=(), **names):
    """Return what the blocks of a page define.

    Args:
        page: The page, as a path below docs/.
        without: A block that has one of these words is left out.
        names: What the page takes for granted.
    """
    for block in python_blocks(page):
        if not any(word in block for word in without):
            exec(block, names)
    return names
