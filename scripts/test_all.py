"""Run the tests on the other Python versions that are found on this machine.

They are looked up on the PATH and in pyenv's folder of versions. Each version has its own
environment (`.venv-3.12`), made from the same lock file. The end lists the versions that were not
found.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def find(version: str) -> str | None:
    """Return a Python of this version that starts, or None.

    Args:
        version: Major and minor, as in "3.12".
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    installed = sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)
    for candidate in [f"python{version}", *map(str, installed)]:
        if starts(candidate, version):
            return candidate
    return None


def starts(candidate: str, version: str) -> bool:
    """Whether it starts: a pyenv shim for a version that is not active exists, but does not."""
    probe = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([candidate, "-c", probe], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return answer.stdout.decode().strip() == version


def run_tests(interpreter: str, version: str) -> bool:
    """Set up the version's environment and run the whole suite in it, without coverage."""
    folder = f".venv-{version}"
    print(f"\ntest-all: Python {version} from {interpreter}", flush=True)
    set_up = subprocess.run([interpreter, "scripts/set_up.py", folder], cwd=ROOT, check=False)
    if set_up.returncode:
        return False
    tests = [f"{folder}/bin/python", "-m", "pytest", "-q", "-n", "auto", "--dist", "loadfile"]
    return subprocess.run(tests, cwd=ROOT, check=False).returncode == 0


def main(versions: list[str]) -> int:
    """Test on each version; return the exit code: 1 if one of them failed."""
    results = {}
    for version in versions:
        interpreter = find(version)
        if interpreter is None:
            results[version] = "NOT FOUND, NOT TESTED"
        else:
            results[version] = "passed" if run_tests(interpreter, version) else "FAILED"
    print()
    for version, result in results.items():
        print(f"test-all: Python {version}: {result}")
    return int("FAILED" in results.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
