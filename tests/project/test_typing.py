"""The types, as users' type checkers see them.

The files in tests/typing hold the claims: `assert_type` for what must be so, `type: ignore` for
what must be an error (where it is none, the comment is one). mypy reads them here, so that
`make test` alone notices; `make check` lets mypy and pyright read them.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

import resilience

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests" / "typing").glob("*.py"))


def test_mypy_agrees_with_every_claim_about_types():
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent"]
    run = subprocess.run(
        [*command, *map(str, FILES)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.stdout == f"Success: no issues found in {len(FILES)} source files\n", run.stderr


def test_every_file_of_claims_is_strict_for_pyright_too():
    for file in FILES:
        strict = "# pyright: strict, reportUnnecessaryTypeIgnoreComment=true"
        assert strict in file.read_text(encoding="utf-8").splitlines(), file.name


def test_make_check_lets_both_checkers_read_the_claims():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert "tests/typing" in tools["mypy"]["files"]
    assert "tests/typing" in tools["pyright"]["include"]
    assert tools["mypy"]["strict"]


def test_the_package_says_that_it_is_typed():
    assert (Path(resilience.__file__).parent / "py.typed").read_text() == ""
