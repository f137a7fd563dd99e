"""The retry storm: 50 tasks that retry meet a region that has just gone down.

    make storm

Each task starts 5 ms after the one before and makes up to five attempts, 20 ms apart; the backend
takes 10 ms and always answers 503. The breaker stands outside, the retries inside, as the mission
has it. What is counted: the requests that reached the backend, and those among them that began
when the breaker already said that it was open.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from loguru import logger
from tenacity import retry, stop_after_attempt, wait_fixed

from benchmarks import report
from benchmarks.contenders import OTHERS, Contender, RegionBreaker
from benchmarks.contenders.base import REGION, Send
from benchmarks.faults import ServerError
from resilience.retry import transient_retry

TASKS = 50
BETWEEN_TASKS = 0.005  # seconds
ANSWER_TIME = 0.010
ATTEMPTS = 5
BETWEEN_ATTEMPTS = 0.020

Stack: TypeAlias = Callable[[Send], Send]

INTRODUCTION = f"""\
# The retry storm

{TASKS} tasks start {BETWEEN_TASKS * 1000:g} ms apart. The backend takes {ANSWER_TIME * 1000:g} ms
and always answers 503. Each task makes up to {ATTEMPTS} attempts, {BETWEEN_ATTEMPTS * 1000:g} ms
apart, with tenacity; the breaker stands outside and opens at ten failures in a row.

A breaker decides when a call begins. The loops that are under way at that moment go on, unless
something tells them. `transient_retry` is what tells them here."""

READING = """\
- **After OPEN** are the requests that began when the breaker already said that it was open.
- **Opened after** is counted from the start of the first task.
- **`count_per="call"`** takes a call with its five attempts for one failure, as the mission says:
  ten calls have to fail. **`count_per="attempt"`** takes each attempt for one, so that ten
  requests are enough.
- The last column is when the last task had ended. Loops that are woken do not sleep to the end."""


class Storm:
    """One run: the backend, the tasks, and what was seen."""

    def __init__(self, contender: Contender | None, stack: Stack) -> None:
        self.contender = contender
        self.requests = 0
        self.after_open = 0
        self.opened: float | None = None
        self.send = stack(self.backend)
        self.started = time.monotonic()

    async def backend(self, region: str) -> None:
        """Answer 503 after a while, whoever asks."""
        del region
        self.requests += 1
        self.after_open += self.look()
        await asyncio.sleep(ANSWER_TIME)
        raise ServerError(503)

    def look(self) -> bool:
        """Tell whether the circuit is open, and note when it first was."""
        is_open = self.contender is not None and self.contender.is_open()
        if is_open and self.opened is None:
            self.opened = time.monotonic() - self.started
        return is_open

    async def task(self, number: int) -> None:
        """Make one call, when its turn has come."""
        await asyncio.sleep(number * BETWEEN_TASKS)
        try:
            await self.send(REGION)
        except Exception as error:
            expected = (ServerError, self.contender.rejection) if self.contender else ServerError
            if not isinstance(error, expected):
                raise
        self.look()

    async def run(self) -> tuple[str, ...]:
        """Let all tasks run; gives the figures as they stand in the table."""
        self.started = time.monotonic()
        await asyncio.gather(*(self.task(number) for number in range(TASKS)))
        seconds = time.monotonic() - self.started
        opened = "-" if self.opened is None else f"{self.opened * 1000:.0f} ms"
        after_open = "-" if self.contender is None else str(self.after_open)
        return str(self.requests), after_open, opened, f"{seconds:.2f} s"


def plain_retry(fn: Send) -> Send:
    """Retry as everybody does, with tenacity."""
    decorate = retry(
        stop=stop_after_attempt(ATTEMPTS), wait=wait_fixed(BETWEEN_ATTEMPTS), reraise=True
    )
    decorated: Any = decorate(fn)
    return decorated


def with_plain_retry(contender: Contender) -> Stack:
    """Put a breaker over plain retries."""
    return lambda fn: contender.protect(plain_retry(fn))


def with_transient_retry(contender: Contender, count_per: Any) -> Stack:
    """Put a breaker over retries that know their circuit."""

    def stack(fn: Send) -> Send:
        retries = transient_retry(
            attempts=ATTEMPTS, wait=wait_fixed(BETWEEN_ATTEMPTS), count_per=count_per
        )
        return contender.protect(retries(fn))

    return stack


def storms() -> Iterator[tuple[str, Storm]]:
    """Set up one row of the table after the other."""
    yield "no breaker", Storm(None, plain_retry)
    for library in OTHERS:
        other = library()
        yield library.title(), Storm(other, with_plain_retry(other))
    for count_per in ("call", "attempt"):
        ours = RegionBreaker()
        row = f'{RegionBreaker.title()}, `count_per="{count_per}"`'
        yield row, Storm(ours, with_transient_retry(ours, count_per))


async def main() -> None:
    """Run one storm after the other, so that none disturbs another, and write the page."""
    logger.remove()
    rows = [(name, *await storm.run()) for name, storm in storms()]
    head = ("", "requests", "after OPEN", "opened after", "last task ended after")
    where = report.origin("make storm", "tenacity")
    report.write("storm.md", INTRODUCTION, where, report.table(head, rows), READING)


if __name__ == "__main__":
    asyncio.run(main())
