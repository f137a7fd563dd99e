"""Question (j): how long the import takes, in a fresh process each time."""

import statistics
import subprocess
import sys

from benchmarks import report
from benchmarks.contenders import ALL, RegionBreaker

ROUNDS = 15
MODULES = {
    "region-breaker": "resilience",
    "interlock-cb": "interlock",
    "hyx": "hyx.circuitbreaker",
}
PROGRAM = """\
import time
started = time.perf_counter()
import {module}
print(time.perf_counter() - started)
"""


def imports() -> tuple[str, ...]:
    """Import every package in turn, each time in a process of its own."""
    names = ["loguru", "asyncio", *(library.name for library in ALL)]
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            times[name].append(_seconds(MODULES.get(name, name)))
    rows = []
    for name in sorted(names, key=lambda name: min(times[name])):
        least, median = min(times[name]) * 1000, statistics.median(times[name]) * 1000
        row = f"**{name}**" if name == RegionBreaker.name else name
        rows.append((row, f"{least:.0f}", f"{median:.0f}"))
    head = ("", "ms, least", "ms, median")
    said = (
        f"{ROUNDS} fresh processes each, byte code in place. region-breaker imports loguru; loguru "
        "and asyncio alone are there to compare."
    )
    return "## (j) Import", said, report.table(head, rows)


def _seconds(module: str) -> float:
    command = [sys.executable, "-I", "-c", PROGRAM.format(module=module)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
