"""Check what the wheel offers without any extra; run by a Python that has nothing else installed.

Modules and names that need a library have to say which extra installs it. All others have to work,
and so does the command line. test_extras.py runs this.
"""

import importlib
import os
import pkgutil
import re
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path

from loguru import logger

import resilience
import resilience.integrations
import resilience.testing

ROOT = Path(__file__).resolve().parent.parent
# A module, or a name in a module, and the extra that it needs. `tests` cannot be imported here.
NEEDED: dict[str, str] = runpy.run_path(str(ROOT / "tests" / "support" / "extras.py"))["NEEDED"]
ADVICE = re.compile(r'needs the extra (\w+): pip install "region-breaker\[\1\]"')

# Arguments -> exit code, and what is printed. Nothing listens at these addresses.
COMMANDS: dict[tuple[str, ...], tuple[int, str]] = {
    ("--help",): (0, "force-open"),
    ("explain",): (0, "10 calls per second"),
    ("replay", "outcomes.rec"): (0, "eu-west-1"),
    ("incidents", "outcomes.rec"): (0, "Outage of region eu-west-1"),
    ("status",): (1, "give one of --redis, --url and --socket"),
    ("status", "--url", "http://127.0.0.1:1/"): (1, "cannot reach http://127.0.0.1:1/"),
    ("status", "--socket", "no.sock"): (1, "cannot reach no.sock"),
    ("status", "--redis", "redis://127.0.0.1:1"): (1, 'pip install "region-breaker[redis]"'),
    ("reset", "eu-west-1", "--redis", "redis://127.0.0.1:1"): (1, "region-breaker[redis]"),
}


def names() -> Iterator[str]:
    """Yield what users import: modules, and names of modules that need no extra themselves."""
    for package in (resilience, resilience.integrations):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if found.name != "resilience.__main__":  # it is run below
                yield found.name
    yield from ("resilience.testing.conformance", "resilience.testing.rabbitmq")
    for module in ("resilience.integrations.status_page", "resilience.testing"):
        for public in importlib.import_module(module).__all__:
            yield f"{module}:{public}"


def missing_extra(name: str) -> str | None:
    """Return the extra that a module or name asks for, or None.

    Args:
        name: A module, or a name in a module: ``module:name``.

    Raises:
        ImportError: It cannot be imported, and does not say why.
    """
    module, _, public = name.partition(":")
    try:
        found = importlib.import_module(module)
        getattr(found, public or "__name__")
    except ImportError as error:
        advice = ADVICE.search(str(error))
        if advice is None:
            raise
        return advice[1]
    return None


def check_imports() -> None:
    """Compare the extras that are asked for with those that have to be."""
    found = {name: extra for name in names() if (extra := missing_extra(name)) is not None}
    if found != NEEDED:
        sys.exit(f"without extras: these need one:\n{found}\nand not:\n{NEEDED}")
    known = set(metadata("region-breaker").get_all("Provides-Extra") or ())
    if set(NEEDED.values()) != known:
        sys.exit(f"without extras: nothing asks for {known - set(NEEDED.values())}")


def check_command_line(folder: Path) -> None:
    """Run each command, and compare what it prints and how it ends.

    Args:
        folder: Where it runs.
    """
    record_an_outage(folder / "outcomes.rec")
    environment = {name: os.environ[name] for name in os.environ if "RESILIENCE" not in name}
    for arguments, (code, text) in COMMANDS.items():
        command = [sys.executable, "-W", "error", "-m", "resilience", *arguments]
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        printed = (ended.stdout, ended.stderr)[code]
        if ended.returncode != code or text not in printed:
            shown = f"{ended.stdout}{ended.stderr}"
            sys.exit(f"without extras: {' '.join(arguments)}: {ended.returncode}\n{shown}")


def record_an_outage(path: Path) -> None:
    """Record an outage from its beginning to its end."""
    logger.disable("resilience")
    clock = resilience.testing.FakeClock()
    registry = resilience.CircuitBreakerRegistry(clock=clock)
    recording = registry.record(path)
    breaker = registry.get("eu-west-1")
    for _ in range(10):
        breaker.acquire().fail()
    clock.advance(60)
    for _ in range(3):
        breaker.acquire().succeed()
    recording.close()


if __name__ == "__main__":
    check_imports()
    with tempfile.TemporaryDirectory() as temporary:
        check_command_line(Path(temporary))
