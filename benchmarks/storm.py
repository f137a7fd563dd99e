"""The retry storm: 50 tasks that retry meet a region that has just gone down.

    make storm

The breaker stands outside and the retries inside. Counted are the requests that reach the backend,
and those of them that begin when the breaker already reports that it is open. A sleep takes no
time here, so that the figures are the same on every machine.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Literal, cast

from loguru import logger
from tenacity import retry, stop_after_attempt, wait_fixed

from benchmarks import contenders, report
from benchmarks.calls import REGION, HttpError, Send
from benchmarks.contenders import Contender, RegionBreaker
from resilience.retry import transient_retry
from resilience.testing.conformance.clock import run_timeless

TASKS = 50
BETWEEN_TASKS = 0.005  # seconds
ANSWER_TIME = 0.010
ATTEMPTS = 5
BETWEEN_ATTEMPTS = 0.020

INTRODUCTION = f"""\
# The retry storm

{TASKS} tasks start {BETWEEN_TASKS * 1000:g} ms apart. The backend takes {ANSWER_TIME * 1000:g} ms
and always answers 503. Each task makes up to {ATTEMPTS} attempts, {BETWEEN_ATTEMPTS * 1000:g} ms
apart; where no other retries are named, they are tenacity's. The breaker stands outside and opens
after ten failures in a row. The clock of the event loop jumps over each sleep: the figures are the
same on every machine.

A breaker decides when a call begins. The loops that are running at that moment go on, unless
something stops them. Here the breaker stops those that it can see, which are tenacity's."""

READING = """\
- **After OPEN** are the requests that began when the breaker already reported that it was open.
- **Opened after** counts from the start of the first task.
- **outside** is the order that the manual of nopanic shows, and the way to use stamina and other
  retries that nobody can stop. There each attempt is a call of the breaker: it counts attempts, and
  rejects those that come too late one by one. A rejection ends the loop of its call. A fault that a
  retry repairs counts as well.
- **`count_per="call"`** counts a call with its five attempts as one failure: ten calls have to
  fail. **`count_per="attempt"`** counts each attempt, so that ten requests are enough.
- **Last task ended after**: loops that are woken do not sleep to the end."""


class Storm:
    """One run: the backend, the tasks, and what was counted.

    Args:
        contender: The breaker; None for none.
        stack: Puts the breaker and the retries around the backend.
    """

    def __init__(self, contender: Contender | None, stack: Callable[[Send], Send]) -> None:
        self.contender = contender
        self.requests = 0
        self.after_open = 0
        self.opened: float | None = None
        self.ended = 0.0
        self.send = stack(self.backend)

    async def backend(self, region: str) -> None:
        """Answer 503 after a while."""
        del region
        self.requests += 1
        self.after_open += self.is_open()
        await asyncio.sleep(ANSWER_TIME)
        raise HttpError(503)

    def is_open(self) -> bool:
        """Whether the circuit is open; the first time is noted."""
        is_open = self.contender is not None and self.contender.is_open()
        if is_open and self.opened is None:
            self.opened = asyncio.get_running_loop().time()
        return is_open

    async def task(self, number: int) -> None:
        """Make one call when its turn has come."""
        await asyncio.sleep(number * BETWEEN_TASKS)
        expected = (HttpError, self.contender.rejection) if self.contender else (HttpError,)
        try:
            await self.send(REGION)
        except expected:
            self.is_open()

    async def run(self) -> None:
        """Run all tasks, from the time 0 of the event loop."""
        await asyncio.gather(*(self.task(number) for number in range(TASKS)))
        self.ended = asyncio.get_running_loop().time()

    def figures(self) -> tuple[str, ...]:
        """Return the figures as they stand in the table."""
        opened = "-" if self.opened is None else f"{self.opened * 1000:.0f} ms"
        after_open = "-" if self.contender is None else str(self.after_open)
        return str(self.requests), after_open, opened, f"{self.ended * 1000:.0f} ms"


def plain_retry(fn: Send) -> Send:
    """Retry as everybody does, with tenacity."""
    decorate = retry(
        stop=stop_after_attempt(ATTEMPTS), wait=wait_fixed(BETWEEN_ATTEMPTS), reraise=True
    )
    return cast("Send", decorate(fn))


def over_plain_retry(contender: Contender) -> Storm:
    """Put a breaker over plain retries."""
    return Storm(contender, lambda fn: contender.protect(plain_retry(fn)))


def with_stamina(contender: Contender, *, outside: bool) -> Storm:
    """Put a breaker over the retries of stamina, or under them."""
    retries = import_module("benchmarks.own_retries").stamina_retry
    return with_retries(contender, retries, outside=outside)


def with_retries_of_nopanic(contender: Contender, *, outside: bool) -> Storm:
    """Put the breaker of nopanic over its own retries, or under them."""
    retries = import_module("benchmarks.own_retries").nopanic_retry
    return with_retries(contender, retries, outside=outside)


def with_retries(
    contender: Contender, retries: Callable[[Send, int, float], Send], *, outside: bool
) -> Storm:
    """Put a breaker over retries, or under them."""

    def stack(fn: Send) -> Send:
        if outside:
            return retries(contender.protect(fn), ATTEMPTS, BETWEEN_ATTEMPTS)
        return contender.protect(retries(fn, ATTEMPTS, BETWEEN_ATTEMPTS))

    return Storm(contender, stack)


def over_transient_retry(contender: Contender, count_per: Literal["call", "attempt"]) -> Storm:
    """Put a breaker over retries that know their circuit."""
    retries = transient_retry(
        attempts=ATTEMPTS, wait=wait_fixed(BETWEEN_ATTEMPTS), count_per=count_per
    )
    return Storm(contender, lambda fn: contender.protect(retries(fn)))


def storms(libraries: Sequence[type[Contender]]) -> Iterator[tuple[str, Storm]]:
    """Set up one row of the table after the other."""
    yield "no breaker", Storm(None, plain_retry)
    for library in libraries:
        if library is RegionBreaker:
            continue
        title = library.title()
        yield title, over_plain_retry(library())
        if library.name == "nopanic":
            yield f"{title}, its own `retry`", with_retries_of_nopanic(library(), outside=False)
            yield (
                f"{title}, its own `retry` outside",
                with_retries_of_nopanic(library(), outside=True),
            )
    ours = RegionBreaker.title()
    yield f"{ours}, `tenacity.retry`", over_plain_retry(RegionBreaker())
    if len(libraries) > 1:  # the environment of the other libraries
        stamina = import_module("benchmarks.own_retries").stamina_title()
        yield f"{ours}, {stamina}", with_stamina(RegionBreaker(), outside=False)
        yield f"{ours}, {stamina} outside", with_stamina(RegionBreaker(), outside=True)
    yield f'{ours}, `count_per="call"`', over_transient_retry(RegionBreaker(), "call")
    yield f'{ours}, `count_per="attempt"`', over_transient_retry(RegionBreaker(), "attempt")


def table(libraries: Sequence[type[Contender]]) -> str:
    """Run one storm after the other, so that none disturbs another."""
    rows = []
    for name, storm in storms(libraries):
        run_timeless(storm.run())
        rows.append((name, *storm.figures()))
    return report.table(
        ("", "requests", "after OPEN", "opened after", "last task ended after"), rows
    )


def main() -> None:
    """Write the page."""
    logger.remove()
    where = report.origin("make storm", "tenacity")
    report.write("storm.md", INTRODUCTION, where, table(contenders.everyone()), READING)


if __name__ == "__main__":
    main()
