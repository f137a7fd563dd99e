"""Measure how long it takes to replay a million recorded outcomes.

    python -m benchmarks.replay

The traffic is of one region with 20 calls at a time, which is down for a minute out of every half
hour. What is measured is reading the file, and then each policy.
"""

import random
import tempfile
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from loguru import logger

from resilience import BreakerPolicy, CircuitBreakerOpenError, CircuitBreakerRegistry, Permit
from resilience.recording import read_recording
from resilience.replay import replay
from resilience.testing import FakeClock

OUTCOMES = 1_000_000
IN_FLIGHT = 20
STEP = 0.01  # seconds between two calls
PERIOD = 1800.0
DOWN = 60.0
POLICIES = {
    "as recorded": None,
    "failure_threshold=5": BreakerPolicy(failure_threshold=5),
    "failure_rate_threshold=0.5": BreakerPolicy(failure_rate_threshold=0.5),
}


def write(path: Path, outcomes: int) -> None:
    """Record this many outcomes and rejections."""
    clock, chance = FakeClock(), random.Random(1)  # noqa: S311 - no secret
    registry = CircuitBreakerRegistry(clock=clock)
    recording = registry.record(path, limit=2 * outcomes)
    breaker = registry.get("region")
    running: deque[Permit] = deque()
    for number in range(outcomes):
        clock.advance(STEP)
        with suppress(CircuitBreakerOpenError):
            running.append(breaker.acquire())
        if running and (len(running) > IN_FLIGHT or number % 2):
            permit = running.popleft()
            is_down = clock() % PERIOD < DOWN or chance.random() < 0.01
            permit.fail() if is_down else permit.succeed()
    recording.close()


def main() -> None:
    """Write a recording, and replay it."""
    logger.remove()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outcomes.rec"
        began = time.process_time()
        write(path, OUTCOMES)
        print(f"recorded in {time.process_time() - began:.2f} s, {path.stat().st_size:,} bytes")
        began = time.process_time()
        recorded = read_recording(path)
        read = time.process_time() - began
        print(f"{recorded.count():,} outcomes, read in {read:.2f} s")
        for name, policy in POLICIES.items():
            began = time.process_time()
            result = replay(recorded.regions[0], policy)
            seconds = time.process_time() - began
            print(f"{name}: {seconds:.2f} s, with reading {read + seconds:.2f} s;", end=" ")
            print(f"{len(result.transitions)} changes of state")


if __name__ == "__main__":
    main()
