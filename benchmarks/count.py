"""Count the instructions of each kind of call with valgrind, and compare them with a baseline.

    make bench-count                     compare
    make bench-count ARGS=--write        make what is counted now the baseline
    make bench-count ARGS="--write 'rejection' 'success, def'"     of these only

Seconds depend on the machine and on what else runs on it; instructions do not. This is therefore
what guards the speed of the package. Each interpreter has its own baseline, because each has other
byte code.
"""

import json
import math
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

#: The ratios that are printed next to the counts: this path in relation to that one.
RATIOS = {
    "success, dotted path": "success",
    "success, dotted path, types in turn": "success, dotted path",
    "success, shared": "success",
    "success": "an empty wrapper",
    "success with rates": "an empty wrapper",
    "rejection, shared": "rejection",
    "success with a tenant": "success",
    "success with a tenant, dotted paths": "success, dotted path",
    "success with a tenant, def": "success, def",
    "success with a tenant, over transient_retry": "success over transient_retry",
    "success over tenacity": "tenacity alone",
    "success over transient_retry": "tenacity alone",
    "success over tenacity, def": "tenacity alone, def",
    "success over transient_retry, def": "tenacity alone, def",
    "transient_retry alone": "tenacity alone",
    "transient_retry alone, def": "tenacity alone, def",
}

#: The ratios that are not only printed: a path may cost this many times the other one at most.
MOST = {name: 1.3 for name in RATIOS if name.startswith("success with a tenant")}


def baseline_file() -> Path:
    """Return the file with the baseline of this interpreter, whether it exists or not."""
    python = f"{platform.python_implementation()}-{platform.python_version()}".lower()
    return Path(__file__).parent / "instructions" / f"{python}-{platform.machine()}.json"


def count() -> dict[str, int]:
    """Count every path; return instructions per call."""
    with tempfile.TemporaryDirectory(prefix="count-") as folder:
        program = [sys.executable, "-m", "benchmarks.paths"]
        command = [
            *("setarch", "-R"),  # addresses decide where a hash table has its collisions
            *("valgrind", "--quiet", "--tool=callgrind", "--dump-before=getppid"),
            f"--callgrind-out-file={folder}/counted",
            *program,
            str(CALLS),
        ]
        # An empty environment: it is part of the memory of the process.
        clean = {"PYTHONHASHSEED": "0", "PATH": os.environ.get("PATH", os.defpath)}
        # First only to write the byte code: writing leaves the memory different from reading.
        subprocess.run([*program, "1"], check=True, cwd=ROOT, env=clean)
        subprocess.run(command, check=True, cwd=ROOT, env=clean)
        # Three marks for each path: before the loop, after it, after the one twice as long.
        marks = range(1, 3 * len(paths.PATHS) + 1)
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
    """Print both side by side; return the paths that are dearer than the limit allows."""
    width = max(map(len, counted))
    print(f"{'instructions per call':{width}} {'now':>8} {'baseline':>9}")
    dearer = []
    for name, now in counted.items():
        line = f"{name:{width}} {now:8,} {'':17}"
        if before := baseline.get(name):
            line = f"{name:{width}} {now:8,} {before:9,} {now / before - 1:+7.1%}"
            if now > before * LIMIT:
                dearer.append(name)
                line += "  TOO MUCH"
        other = RATIOS.get(name)
        if other in counted:
            line += f"   {now / counted[other]:.3f} times {other}"
            if now > counted[other] * MOST.get(name, math.inf):
                dearer.append(name)
                line += "  TOO MUCH"
        print(line)
    return dearer


def read_baseline() -> dict[str, int]:
    """Return the baseline of this very interpreter; it is empty where there is none."""
    file = baseline_file()
    if not file.exists():
        warn(f"NOTHING TO COMPARE WITH, no {file.name}; `make bench-count ARGS=--write` makes it")
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    if content["interpreter"] != sys.version:
        warn(f"NOTHING TO COMPARE WITH, {file.name} is from another build of this interpreter")
        return {}
    baseline: dict[str, int] = content["instructions per call"]
    return baseline


def write_baseline(counted: dict[str, int]) -> None:
    """Make what was counted the baseline of this interpreter."""
    file = baseline_file()
    file.parent.mkdir(exist_ok=True)
    content = {"interpreter": sys.version, "instructions per call": counted}
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"bench-count: written to {file.name}")


def warn(text: str) -> None:
    """Print what must not be overlooked although nothing failed."""
    print(f"\n*** bench-count: {text} ***\n", flush=True)


def main(arguments: list[str]) -> int:
    """Count and compare, or write; return the exit code."""
    if not (shutil.which("valgrind") and shutil.which("setarch")):
        warn("NOT COUNTED, valgrind and setarch are needed (on Debian: valgrind, util-linux)")
        return 0
    counted = count()
    if "--write" in arguments:
        compare(counted, {})
        wanted = [name for name in arguments if name != "--write"] or list(counted)
        write_baseline({**read_baseline(), **{name: counted[name] for name in wanted}})
        return 0
    baseline = read_baseline()
    dearer = compare(counted, baseline)
    if dearer:
        print(f"bench-count: more than {LIMIT - 1:.0%} over the baseline: {'; '.join(dearer)}")
        print("bench-count: if it must be, `make bench-count ARGS=--write` and the reason why")
    elif baseline:
        print(f"bench-count: nothing is more than {LIMIT - 1:.0%} over the baseline")
    return int(bool(dearer))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
