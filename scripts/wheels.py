"""Building the wheel, and installing it elsewhere: what the scripts that test it share."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
UV_PIP = (sys.executable, "-m", "uv", "pip")


def extras() -> list[str]:
    """Return the extras of the project."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["optional-dependencies"])


def build(folder: Path) -> Path:
    """Build the wheel with the locked hatchling and return its path.

    Args:
        folder: Where it goes.
    """
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), where=ROOT)
    (wheel,) = folder.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    ours = ("resilience/", "region_breaker-", "pytest_region_breaker.py")
    foreign = [name for name in names if not name.startswith(ours)]
    if foreign or not {"resilience/py.typed", "pytest_region_breaker.py"} <= set(names):
        sys.exit(
            f"wheel: holds {foreign or names}, and has to hold resilience/ with its py.typed,"
            " and the plugin of pytest, only"
        )
    return wheel


def make_environment(folder: Path) -> str:
    """Make an environment that has nothing in it, and return its Python."""
    run(sys.executable, "-m", "uv", "venv", "-q", "--python", sys.executable, str(folder))
    return str(folder / "bin" / "python")


def install(python: str, what: str) -> None:
    """Install a wheel, or one with extras, and what it asks for in the versions of the lock file.

    Args:
        python: The Python of the environment.
        what: The path of the wheel, as in ``folder/name.whl[extra]``.
    """
    run(*UV_PIP, "install", "-q", "--python", python, "-c", str(LOCK), what)


def run(*command: str, where: Path | None = None) -> None:
    """Run a command, and fail if it fails."""
    subprocess.run(command, check=True, cwd=where)
