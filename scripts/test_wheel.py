"""Build the wheel, install it into an empty environment and test it there.

The source folder is out of the way: the tests are copied to a temporary folder that has no
`resilience` of its own, and a test that is added to them fails if the package under test is not
the installed one.
"""

import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV_PIP = [sys.executable, "-m", "uv", "pip"]
LEFT_BEHIND = shutil.ignore_patterns(
    "resilience",
    "pytest_region_breaker.py",
    ".*",
    "__pycache__",
    "_build",
    "build",
    "dist",
    "mutants",
)

# What a wheel can get wrong: its modules, the files beside them, and what it asks for. The other
# tests are the same with or without a wheel.
TESTS = (
    "tests/test_installed_wheel.py",
    # What is in the wheel, not all that it does: `make coverage` tests that.
    "tests/unit/decorator",
    "tests/unit/test_opentelemetry.py",
    "tests/integration/http",
    "tests/integration/http_clients",
    "tests/integration/prometheus",
    "tests/integration/rabbitmq/test_arguments.py",
    "tests/integration/redis/test_script.py",
    "tests/integration/status_page/test_page.py",
    "tests/integration/web",
    "tests/unit/testing",
)

EXTRAS = (
    "aiohttp",
    "httpx",
    "httpx2",
    "opentelemetry",
    "prometheus",
    "rabbitmq",
    "redis",
    "requests",
    "starlette",
)

IMPORT_PROOF = """\
import sys, resilience
assert resilience.__file__.startswith(sys.prefix), resilience.__file__
for late in ("aiohttp", "tenacity"):
    assert late not in sys.modules, f"import resilience loads {late}"
print("wheel: imports", resilience.__file__.removeprefix(sys.prefix + "/"))
"""

TEST_PROOF = """\
import sys

import resilience


def test_the_package_under_test_is_the_installed_wheel():
    assert resilience.__file__.startswith(sys.prefix)
    assert "site-packages" in resilience.__file__
"""


def test_wheel(folder: Path) -> None:
    """Build, install and test in a folder of its own.

    Args:
        folder: An empty folder.

    Raises:
        subprocess.CalledProcessError: A step failed. Its output says why.
    """
    wheel = build(folder / "dist")
    print(f"wheel: built {wheel.name}", flush=True)
    python = str(folder / "venv" / "bin" / "python")
    run(sys.executable, "-m", "uv", "venv", "-q", "--python", sys.executable, str(folder / "venv"))

    # First with nothing but what the wheel itself asks for: does it ask for enough?
    constraints = ["-c", str(ROOT / "requirements.lock")]
    run(*UV_PIP, "install", "-q", "--python", python, *constraints, str(wheel))
    run(python, "-c", IMPORT_PROOF, where=folder)
    run(python, str(shutil.copy(ROOT / "examples" / "quickstart.py", folder)), where=folder)

    extras = f"{wheel}[{','.join(EXTRAS)}]"
    run(*UV_PIP, "install", "-q", "--python", python, *constraints, extras)
    locked = ["--require-hashes", "-r", str(ROOT / "requirements.lock")]
    run(*UV_PIP, "install", "-q", "--python", python, *locked)
    run(
        python,
        "-m",
        "pytest",
        "-q",
        "-n",
        "auto",
        "--dist",
        "loadfile",
        *TESTS,
        where=copy_tests(folder / "elsewhere"),
    )


def build(folder: Path) -> Path:
    """Build the wheel with the locked hatchling and return its path."""
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


def copy_tests(folder: Path) -> Path:
    """Copy the project without the package, and add a test which proves that."""
    shutil.copytree(ROOT, folder, ignore=LEFT_BEHIND)
    (folder / "tests" / "test_installed_wheel.py").write_text(TEST_PROOF)
    return folder


def run(*command: str, where: Path | None = None) -> None:
    """Run a command, and fail if it fails."""
    subprocess.run(command, check=True, cwd=where)


if __name__ == "__main__":
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="wheel-") as temporary:
        try:
            test_wheel(Path(temporary).resolve())
        except subprocess.CalledProcessError as error:
            sys.exit(f"wheel: failed with exit code {error.returncode}: {' '.join(error.cmd)}")
    print(f"wheel: built, installed and tested in {time.monotonic() - started:.0f} s")
