"""Count the machine instructions of a call that goes well, with every exporter and without.

Needs valgrind, takes three minutes: `.venv/bin/python scripts/count_instructions.py`. Two runs
that differ in the number of calls alone tell what the calls cost. Exits with 1 when being seen
costs more than 0.1 %.
"""

import re
import subprocess
import sys
from pathlib import Path

CALLS = 30_000
MOST = 0.001

PROGRAM = """
import asyncio, gc
import aiohttp.web, opentelemetry.trace, prometheus_client
from resilience import CircuitBreakerRegistry, region_breaker
from resilience.integrations.opentelemetry import observe, trace_circuits
from resilience.integrations.prometheus import CircuitCollector
from resilience.integrations.status_page import status_page

registry = CircuitBreakerRegistry()

@region_breaker(region_from="region", registry=registry)
async def send(region):
    pass

if {attached}:
    prometheus_client.REGISTRY.register(CircuitCollector(registry))
    observe(registry)
    trace_circuits(registry)
    app = status_page(registry)

async def main():
    for _ in range({calls}):
        await send("eu-west-1")

gc.collect()
gc.disable()
asyncio.run(main())
"""


def count(calls: int, *, attached: bool) -> int:
    """Run so many calls and return the instructions of the whole run."""
    tool = ["setarch", "-R", "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    program = PROGRAM.format(attached=attached, calls=calls)
    done = subprocess.run(
        [*tool, sys.executable, "-c", program],
        cwd=Path(__file__).resolve().parent.parent,
        env={"PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        sys.exit(f"count_instructions: valgrind said\n{done.stderr}")
    return int(found[1])


def main() -> int:
    """Compare, print, and return the exit code."""
    count(1, attached=True)  # compiles what is not compiled yet
    cost = {
        attached: (count(2 * CALLS, attached=attached) - count(CALLS, attached=attached)) / CALLS
        for attached in (False, True)
    }
    more = cost[True] / cost[False] - 1
    print(f"instructions a call: {cost[False]:.1f} alone, {cost[True]:.1f} with every exporter")
    print(f"difference: {more:+.3%}, at most {MOST:.1%}")
    return int(more > MOST)


if __name__ == "__main__":
    sys.exit(main())
