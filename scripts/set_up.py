"""Make a virtual environment that the `make` targets work in.

Run it with the Python that the environment is for: `python3.11 scripts/set_up.py .venv`. The
packages are those of requirements.lock, or of another lock file that the second argument names;
it has to name uv and hatchling too. The stamp file in the environment is written last: if it is
missing, the set-up was interrupted.
"""

import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def set_up(folder: Path, lock: Path) -> None:
    """Make the environment, or bring an existing one up to date.

    Args:
        folder: The folder of the environment.
        lock: The lock file that names the packages.

    Raises:
        subprocess.CalledProcessError: A step failed. Its output says why.
    """
    started = time.monotonic()
    stamp = folder / "stamp"
    whole = stamp.is_file() and stamp.read_text() == str(ROOT) and runs(folder)
    version = sys.version.split()[0]
    if whole:
        print(f"set-up: bringing {folder.name} up to date", flush=True)
    else:
        print(f"set-up: making {folder.name} with Python {version} (once, about 10 s)", flush=True)
    stamp.unlink(missing_ok=True)
    if not whole:
        venv.create(folder, clear=True, symlinks=True, with_pip=True)
    install_uv(folder, lock)
    install_locked(folder, lock)
    install_project(folder)
    stamp.write_text(str(ROOT))
    print(f"set-up: {folder.name} is ready after {time.monotonic() - started:.0f} s", flush=True)


def runs(folder: Path) -> bool:
    """Whether the environment has a Python of this version that still starts."""
    probe = [python(folder), "-c", "import sys; print(sys.version)"]
    try:
        answer = subprocess.run(probe, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return False
    return answer.strip() == sys.version


def install_uv(folder: Path, lock: Path) -> None:
    """Install the locked uv, hash-checked like everything else, with the environment's pip."""
    pin = folder / "uv.txt"
    pin.write_text(locked("uv", lock.read_text()))
    pip(folder, "--require-hashes", "-r", str(pin))


def install_locked(folder: Path, lock: Path) -> None:
    """Install exactly what the lock file names, with uv; if uv fails, with pip, which is slower."""
    sync = [python(folder), "-m", "uv", "pip", "sync", "-q", "--require-hashes"]
    if subprocess.run([*sync, "--python", python(folder), str(lock)], check=False).returncode:
        print("set-up: uv failed; trying pip, which may reach the packages in another way (30 s)")
        pip(folder, "--require-hashes", "-r", str(lock))


def install_project(folder: Path) -> None:
    """Make the working copy importable; hatchling is in the lock, so nothing is downloaded."""
    pip(folder, "--no-index", "--no-build-isolation", "-e", str(ROOT))


def pip(folder: Path, *arguments: str) -> None:
    """Run the environment's pip, which prints errors only."""
    command = [python(folder), "-m", "pip", "-qq", "install", "--no-deps", *arguments]
    subprocess.run(command, check=True)


def python(folder: Path) -> str:
    """Return the environment's interpreter."""
    return str(folder / "bin" / "python")


def locked(name: str, lock: str) -> str:
    """Return the pin and the hashes of a package from the lock file.

    Args:
        name: The package as the lock file spells it.
        lock: The text of the lock file.

    Raises:
        LookupError: The lock file does not name the package.
    """
    lines = iter(lock.splitlines())
    for line in lines:
        if line.startswith(f"{name}=="):
            pin = [line]
            while pin[-1].endswith("\\"):
                pin.append(next(lines))
            return "\n".join(pin) + "\n"
    raise LookupError(f"the lock file does not name {name!r}; make a new one (`make` shows how)")


if __name__ == "__main__":
    named, *lock_file = sys.argv[1:]
    try:
        set_up(ROOT / named, ROOT / (lock_file[0] if lock_file else "requirements.lock"))
    except subprocess.CalledProcessError as error:
        sys.exit(f"set-up: failed: {' '.join(map(str, error.cmd))}")
    except KeyboardInterrupt:
        sys.exit("set-up: interrupted; the next `make` starts over")
