"""Run the tests with the lowest versions of the libraries that pyproject.toml allows.

These versions are in an environment of their own, `.venv-lowest`. All other packages in it have the
versions of requirements.lock, except where a lowest version does not work with them.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ".venv-lowest"
COMPILE = [sys.executable, "-m", "uv", "pip", "compile", "-q", "--no-header", "--no-annotate"]

# The tests that use these libraries. Of the slow ones with servers, only a few.
TESTS = (
    "tests/unit/classify",
    "tests/unit/decorator",
    "tests/unit/events",
    "tests/unit/retry",
    "tests/unit/test_opentelemetry.py",
    "tests/integration/http",
    "tests/integration/http_clients",
    "tests/integration/prometheus",
    "tests/integration/rabbitmq/test_answers.py",
    "tests/integration/rabbitmq/test_arguments.py",
    "tests/integration/rabbitmq/test_loss.py",
    "tests/integration/rabbitmq/test_own_classifier.py",
    "tests/integration/redis/test_script.py",
    "tests/integration/redis/test_sharing.py",
    "tests/integration/status_page/test_page.py",
    "tests/integration/web",
)


def lowest_versions() -> str:
    """Return a pin for each direct dependency, optional ones included."""
    lowest = ["--resolution", "lowest-direct", "--no-deps", "--all-extras"]
    command = [*COMPILE, *lowest, "--python", sys.executable, "pyproject.toml"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def write_lock(folder: Path, pins: str) -> Path:
    """Write a lock file that has these pins and otherwise differs little from requirements.lock.

    Args:
        folder: The folder of the lock file.
        pins: The lowest versions, as uv writes them.
    """
    constraints = folder / "lowest.txt"
    constraints.write_text(pins)
    # uv keeps the versions that the output file has already, where it can.
    lock = folder / "requirements.lock"
    shutil.copy(ROOT / "requirements.lock", lock)
    groups = ["--all-extras", "--group", "dev", "-c", str(constraints)]
    command = [*COMPILE, *groups, "--generate-hashes", "--python", sys.executable]
    subprocess.run([*command, "pyproject.toml", "-o", str(lock)], cwd=ROOT, check=True)
    return lock


def test_lowest(folder: Path) -> str:
    """Set up the environment, run the tests in it, and return the versions in one line.

    Args:
        folder: An empty folder.

    Raises:
        subprocess.CalledProcessError: A step failed. Its output says why.
    """
    pins = lowest_versions()
    lock = write_lock(folder, pins)
    set_up = [sys.executable, "scripts/set_up.py", FOLDER, str(lock)]
    subprocess.run(set_up, cwd=ROOT, check=True)
    versions = ", ".join(pins.replace("==", " ").splitlines())
    print(f"test-lowest: {versions}", flush=True)
    tests = [f"{FOLDER}/bin/python", "-m", "pytest", "-q", "-n", "auto", "--dist", "loadfile"]
    subprocess.run([*tests, *TESTS], cwd=ROOT, check=True)
    return versions


if __name__ == "__main__":
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lowest-") as temporary:
        try:
            versions = test_lowest(Path(temporary).resolve())
        except subprocess.CalledProcessError as error:
            sys.exit(f"test-lowest: failed with exit code {error.returncode}")
    print(f"test-lowest: passed in {time.monotonic() - started:.0f} s with {versions}")
