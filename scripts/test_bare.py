"""Run `make demo` and `make test` in a clone, on what a bare machine has.

The programs that the tests would like to meet (RabbitMQ, Chromium, Redis and so on) are hidden:
the PATH holds Python, make and the few programs that every Linux has, and nothing else.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What the Makefile calls.
PROGRAMS = ("awk", "cat", "env", "find", "make", "rm", "sh", "test")
TARGETS = ("demo", "test")


def test_bare(folder: Path) -> None:
    """Clone the last commit into a folder of its own and run the targets there.

    Args:
        folder: An empty folder.

    Raises:
        subprocess.CalledProcessError: A target failed. Its output says why.
    """
    clone = folder / "clone"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    path = bare_path(folder / "bin")
    for target in TARGETS:
        started = time.monotonic()
        print(f"\n=== make {target}, on a bare machine", flush=True)
        subprocess.run(["make", target], check=True, cwd=clone, env={**os.environ, "PATH": path})
        print(f"bare: make {target} took {time.monotonic() - started:.0f} s", flush=True)


def bare_path(folder: Path) -> str:
    """Fill a folder with links to what a bare machine has, and return it as a PATH."""
    folder.mkdir()
    # The interpreter itself, not the link in an environment.
    (folder / "python3").symlink_to(Path(sys.executable).resolve())
    for program in PROGRAMS:
        found = shutil.which(program)
        if found is None:
            sys.exit(f"bare: this machine has no {program}")
        (folder / program).symlink_to(found)
    return str(folder)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="bare-") as temporary:
        try:
            test_bare(Path(temporary).resolve())
        except subprocess.CalledProcessError as error:
            sys.exit(f"bare: failed with exit code {error.returncode}: {' '.join(error.cmd)}")
