"""Quickstart: one decorator, and each region has a circuit breaker of its own.

Frankfurt goes down. After ten failures in a row its circuit opens, and calls are rejected without
being made. After 60 seconds one probe is let through at a time, and three that go well close the
circuit. Dublin is called all the while.

There is no server here, and the clock is a FakeClock: the 60 seconds pass at once. Without the
line that sets the clock this is what a real worker looks like.
"""

import asyncio
import sys
from dataclasses import dataclass

from loguru import logger

from resilience import CircuitBreakerOpenError, default_registry, region_breaker
from resilience.testing import FakeClock

FRANKFURT, DUBLIN = "eu-central-1", "eu-west-1"
down: set[str] = set()
reached: list[str] = []


@dataclass
class Credentials:
    """What a tenant's calls need."""

    region: str


@region_breaker(region_from="credentials.region")
async def send(credentials: Credentials, text: str) -> str:
    reached.append(credentials.region)
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
    assert reached.count(FRANKFURT) == 1 + 10, "a rejected call does not reach the function"
    assert await attempt(DUBLIN) == "hello delivered"
    print(f"{DUBLIN}: hello delivered")

    print(f"\n60 seconds later {FRANKFURT} is up again.")
    down.clear()
    clock.advance(60)
    assert [await attempt(FRANKFURT) for _ in range(3)] == ["hello delivered"] * 3
    seen = default_registry.get(FRANKFURT).snapshot()
    print(
        f"{seen.successes} calls went well, {seen.failures} failed, {seen.rejected} were not made"
    )
    assert (seen.successes, seen.failures, seen.rejected) == (1 + 3, 10, 2)
    assert seen.state == "CLOSED"


if __name__ == "__main__":
    logger.configure(handlers=[{"sink": sys.stdout, "format": "log: {level} {message}"}])
    asyncio.run(main())
