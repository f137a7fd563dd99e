"""SECURITY.md promises what is tested: each promise names its tests, and they are there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT)


def promises():
    """The bullets of the sections whose promises are tested."""
    tested = TEXT.partition("## What the package does not trust")[2].partition("## Test helpers")[0]
    return re.split(r"^- ", tested, flags=re.MULTILINE)[1:]


def functions_in(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_each_promise_names_a_test():
    assert len(promises()) > 10
    assert [text[:60] for text in promises() if "`tests/" not in text] == []


def test_each_test_that_is_named_exists():
    assert [
        f"{path}::{name}"
        for path, name in NAMED
        if not (ROOT / path).exists() or (name and name not in functions_in(path))
    ] == []
