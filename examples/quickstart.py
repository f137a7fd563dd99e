"""Quickstart: one decorator gives each region its own circuit breaker.

Frankfurt goes down. After ten failures in a row, its circuit opens: further calls are rejected and
never reach the function. After 60 seconds, one call at a time is let through as a probe, and three
successful probes close the circuit. Calls to Dublin succeed all the while.

There is no server here, and the clock is a FakeClock: the 60 seconds pass immediately. Without the
line that sets the clock, this is what a real worker looks like.
"""

import asyncio
import sys
from dataclasses import dataclass

from loguru import logger

from resilience import CircuitBreakerOpenError, default_registry, region_breaker
from resilience.testing import FakeClock

FRANKFURT, DUBLIN = "eu-central-1", "eu-west-1"
down: set[str] = set()
requests: list[str] = []  # the region of each call that reached the function


@dataclass
class Credentials:
    """What a tenant needs for its calls."""

    region: str


@region_breaker(region_from="credentials.region")
async def send(credentials: Credentials, text: str) -> str:
    requests.append(credentials.region)
    if credentials.region in down:
        raise TimeoutError
    return f"{text} delivered"


async def attempt(region: str) -> str:
    try:
        return await send(Credentials(region), "hello")
    except CircuitBreakerOpenError as error:
        return f"rejected, retry after {error.retry_after:.0f} s"
    except TimeoutError:
        return "timed out"


async def main() -> None:
    clock = FakeClock()
    default_registry.configure(clock=clock)

    print(f"{FRANKFURT}: {await attempt(FRANKFURT)}")

    print(f"\n{FRANKFURT} goes down.")
    down.add(FRANKFURT)
    answers = [await attempt(FRANKFURT) for _ in range(12)]
    for number in (9, 10, 11, 12):
        print(f"call {number}: {answers[number - 1]}")
    assert answers[:10] == ["timed out"] * 10
    assert answers[10:] == ["rejected, retry after 60 s"] * 2
    assert requests.count(FRANKFURT) == 1 + 10, "a rejected call does not reach the function"
    assert await attempt(DUBLIN) == "hello delivered"
    print(f"{DUBLIN}: hello delivered")

    print(f"\n60 seconds later {FRANKFURT} is up again.")
    down.clear()
    clock.advance(60)
    assert [await attempt(FRANKFURT) for _ in range(3)] == ["hello delivered"] * 3
    snapshot = default_registry.get(FRANKFURT).snapshot()
    print(
        f"{snapshot.successes} calls succeeded, {snapshot.failures} failed,"
        f" {snapshot.rejected} were rejected"
    )
    assert (snapshot.successes, snapshot.failures, snapshot.rejected) == (1 + 3, 10, 2)
    assert snapshot.state == "CLOSED"


if __name__ == "__main__":
    logger.configure(handlers=[{"sink": sys.stdout, "format": "log: {level} {message}"}])
    asyncio.run(main())
