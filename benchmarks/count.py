"""Count the instructions of the hot paths with valgrind, and compare them with a baseline.

    make bench-count                     compare
    make bench-count ARGS=--write        make what is counted now the baseline

Seconds depend on the machine and on who else uses it; instructions do not. So this is what guards
the speed of the package. Each interpreter has a baseline of its own, for each has other byte code.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import paths

ROOT = Path(__file__).parents[1]
CALLS = 200
LIMIT = 1.03  # times the baseline

#: What is told beside the counts: this path in relation to that one.
RATIOS = {
    "success, shared": "success",
    "rejection, shared": "rejection",
    "success over tenacity": "tenacity alone",
    "success over transient_retry": "tenacity alone",
    "success over tenacity, def": "tenacity alone, def",
    "success over transient_retry, def": "tenacity alone, def",
}


def baseline_file() -> Path:
    """Say where the baseline of this interpreter is, or would be."""
    python = f"{platform.python_implementation()}-{platform.python_version()}".lower()
    return Path(__file__).parent / "instructions" / f"{python}-{platform.machine()}.json"


def count() -> dict[str, int]:
    """Count every path; gives instructions per call."""
    with tempfile.TemporaryDirectory(prefix="count-") as folder:
        program = [sys.executable, "-m", "benchmarks.paths"]
        command = [
            *("setarch", "-R"),  # addresses decide where a hash table has its collisions
            *("valgrind", "--quiet", "--tool=callgrind", "--dump-before=getppid"),
            f"--callgrind-out-file={folder}/counted",
            *program,
            str(CALLS),
        ]
        # Nothing of the caller's surroundings: the environment is part of the process's memory.
        clean = {"PYTHONHASHSEED": "0", "PATH": os.environ.get("PATH", os.defpath)}
        # Once for the byte code: to write it leaves the memory in another shape than to read it.
        subprocess.run([*program, "1"], check=True, cwd=ROOT, env=clean)
        subprocess.run(command, check=True, cwd=ROOT, env=clean)
        # Three marks for each path: before the loop, after it, after the one twice as long.
        marks = iter(range(1, 3 * len(paths.PATHS) + 1))
        totals = [_total(Path(folder) / f"counted.{mark}") for mark in marks]
    once, twice = totals[1::3], totals[2::3]
    return {
        name: round((more - less) / CALLS)
        for name, less, more in zip(paths.PATHS, once, twice, strict=True)
    }


def _total(file: Path) -> int:
    lines = file.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("totals:"))


def compare(counted: dict[str, int], baseline: dict[str, int]) -> list[str]:
    """Print both side by side; gives the paths that got dearer than the limit allows."""
    width = max(map(len, counted))
    print(f"{'instructions per call':{width}} {'now':>8} {'baseline':>9}")
    dearer = []
    for name, now in counted.items():
        before = baseline.get(name)
        change = "" if before is None else f"{before:9,} {now / before - 1:+7.1%}"
        too_much = before is not None and now > before * LIMIT
        ratio = (
            f"   {now / counted[RATIOS[name]]:.3f} times {RATIOS[name]}" if name in RATIOS else ""
        )
        print(f"{name:{width}} {now:8,} {change}{'  TOO MUCH' if too_much else ''}{ratio}")
        dearer += [name] * too_much
    return dearer


def loudly(text: str) -> None:
    """Say what must not be overlooked although nothing failed."""
    print(f"\n*** bench-count: {text} ***\n", flush=True)


def write(counted: dict[str, int]) -> None:
    """Make what was counted the baseline of this interpreter."""
    file = baseline_file()
    file.parent.mkdir(exist_ok=True)
    content = {"interpreter": sys.version, "instructions per call": counted}
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"bench-count: written to {file.relative_to(ROOT)}")


def baseline() -> dict[str, int]:
    """Read the baseline of this very interpreter; it is empty where there is none."""
    file = baseline_file()
    if not file.exists():
        loudly(f"NOTHING TO COMPARE WITH, no {file.name}; `make bench-count ARGS=--write` makes it")
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    if content["interpreter"] != sys.version:
        loudly(f"NOTHING TO COMPARE WITH, {file.name} is of another build of this interpreter")
        return {}
    known: dict[str, int] = content["instructions per call"]
    return known


def main(arguments: list[str]) -> int:
    """Count and compare, or write; gives the exit code."""
    if not (shutil.which("valgrind") and shutil.which("setarch")):
        loudly("NOT COUNTED, valgrind and setarch are needed (on Debian: valgrind, util-linux)")
        return 0
    counted = count()
    if arguments == ["--write"]:
        compare(counted, {})
        write(counted)
        return 0
    known = baseline()
    dearer = compare(counted, known)
    if dearer:
        print(f"bench-count: more than {LIMIT - 1:.0%} over the baseline: {'; '.join(dearer)}")
        print("bench-count: if it must be, `make bench-count ARGS=--write` and say why")
    elif known:
        print(f"bench-count: nothing is more than {LIMIT - 1:.0%} over the baseline")
    return int(bool(dearer))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
