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
from pathlib import Path

from wheels import LOCK, ROOT, UV_PIP, build, extras, install, make_environment, run

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
    python = make_environment(folder / "venv")

    # First with nothing but what the wheel itself asks for: does it ask for enough?
    install(python, str(wheel))
    run(python, "-c", IMPORT_PROOF, where=folder)
    run(python, str(shutil.copy(ROOT / "examples" / "quickstart.py", folder)), where=folder)

    install(python, f"{wheel}[{','.join(extras())}]")
    run(*UV_PIP, "install", "-q", "--python", python, "--require-hashes", "-r", str(LOCK))
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


def copy_tests(folder: Path) -> Path:
    """Copy the project without the package, and add a test which proves that."""
    shutil.copytree(ROOT, folder, ignore=LEFT_BEHIND)
    (folder / "tests" / "test_installed_wheel.py").write_text(TEST_PROOF)
    return folder


if __name__ == "__main__":
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="wheel-") as temporary:
        try:
            test_wheel(Path(temporary).resolve())
        except subprocess.CalledProcessError as error:
            sys.exit(f"wheel: failed with exit code {error.returncode}: {' '.join(error.cmd)}")
    print(f"wheel: built, installed and tested in {time.monotonic() - started:.0f} s")
