"""The scoreboard: every breaker in the same situations, judged by what came to the server.

make scoreboard                                            all, into docs/scoreboard.md
make scoreboard ARGS="pybreaker late-success-in-open"      one cell, printed
"""

import asyncio
import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from loguru import logger

from benchmarks import report, scenarios, several_threads
from benchmarks.clock import Clock, TimelessLoop
from benchmarks.contenders import ALL, CannotExpressError, Contender
from benchmarks.situation import Situation

Play: TypeAlias = Callable[[Contender, Clock], str]

IN_A_LOOP: tuple[Callable[[Situation], Any], ...] = (
    scenarios.opens,
    scenarios.half_open_crowd,
    scenarios.probe_cancelled,
    scenarios.probe_hung,
    scenarios.probe_ignored,
    scenarios.probe_classifier_raises,
    scenarios.late_success_in_open,
    scenarios.late_success_in_half_open,
    scenarios.late_failure_in_half_open,
    scenarios.late_failures_in_new_closed,
    scenarios.cancelled_calls,
    scenarios.excluded_between,
    scenarios.tripping_call,
    scenarios.retry_error_503,
    scenarios.retry_error_404,
    scenarios.retry_storm,
    scenarios.wall_clock_forward,
    scenarios.wall_clock_back,
    scenarios.async_generator,
    scenarios.rejections,
    scenarios.what_the_error_says,
)
BY_ITSELF: tuple[Play, ...] = (
    several_threads.threads_in_closed,
    several_threads.threads_at_half_open,
    several_threads.two_loops,
)

INTRODUCTION = """\
# Scoreboard

Every breaker is set up as the mission says (ten failures open it, 60 seconds later it may be tried
again, three successes close it; 5xx, time-outs and connection errors count, 4xx never), is put into
the same situation, and is judged by what came to the server. Time is moved by hand under each
library, so that nothing depends on how fast the machine is.

Each cell can be had by itself: `make scoreboard ARGS="pybreaker late-success-in-open"`. A dash
means that the library has nothing for it; why is told below the table."""

READING = """\
## How to read it

- **Calls from before the opening** began while the circuit was still CLOSED, and end when it is
  something else. What they report is about a time that is over.
- **At the half-open instant** a server is just getting up. It should not be met by everybody.
- **A probe that ends with a 404** has said nothing about the server, as has one that was cancelled:
  HALF_OPEN means that neither closed the circuit. A breaker that takes what does not count for a
  success may close over it.
- **`probe-hung`**: a breaker that limits its probes must get a place back from one that never ends.
  One that lets everybody through cannot get stuck here.
- **`excluded-between`**: whether it should open is a matter of taste.
- **`RetryError`s**: the filter that the others are given does not look into them; who stacks
  tenacity without `reraise=True` under one of them has to write that into the filter.
- **`retry-storm`** is the one of [its own page](storm.md), in time that is moved by hand.
- **Inside at once**: a breaker that holds a lock while the function runs lets in one thread at a
  time. "The others wait for it" means that they had not come back when the test gave up."""


def played_in_a_loop(scenario: Callable[[Situation], Any]) -> Play:
    """Make a scenario for coroutines into one like the others."""

    def play(contender: Contender, clock: Clock) -> str:
        with asyncio.Runner(loop_factory=TimelessLoop) as runner:
            result: str = runner.run(scenario(Situation(contender, clock)))
            return result

    return play


def _name(scenario: Any) -> str:
    return str(scenario.__name__).replace("_", "-")


PLAYS: dict[str, Play] = {
    **{_name(scenario): played_in_a_loop(scenario) for scenario in IN_A_LOOP},
    **{_name(scenario): scenario for scenario in BY_ITSELF},
}
TITLES: dict[str, str] = {
    _name(scenario): str(inspect.getdoc(scenario)).rstrip(".")
    for scenario in (*IN_A_LOOP, *BY_ITSELF)
}


def cell(library: type[Contender], name: str) -> str:
    """Play one scenario with one library.

    Raises:
        CannotExpressError: The library has nothing for it.
    """
    clock = Clock()
    with clock.under(library):
        return PLAYS[name](library(), clock)


def main(wanted: list[str]) -> str:
    """Print what is wanted, or write the page of all; gives an error text, or nothing."""
    logger.remove()
    if wanted:
        libraries = {library.name: library for library in ALL}
        if len(wanted) != 2 or wanted[0] not in libraries or wanted[1] not in PLAYS:
            return f"scoreboard: one of {', '.join(libraries)}; one of {', '.join(PLAYS)}"
        try:
            print(cell(libraries[wanted[0]], wanted[1]))
        except CannotExpressError as reason:
            print(f"- ({reason})")
        return ""
    write()
    return ""


def write() -> None:
    """Play everything, and write the page."""
    missing: dict[tuple[str, str], list[str]] = {}
    rows = []
    for name, title in TITLES.items():
        cells = []
        for library in ALL:
            try:
                cells.append(cell(library, name))
            except CannotExpressError as reason:
                cells.append("-")
                missing.setdefault((library.name, str(reason)), []).append(name)
        rows.append((title, f"`{name}`", *cells))
    head = ("", "name", *(library.title() for library in ALL))
    where = report.origin("make scoreboard", "tenacity")
    table = report.table(head, rows)
    report.write("scoreboard.md", INTRODUCTION, where, table, READING, notes(missing))
    report.renew_quotes("README.md", table)


def notes(missing: dict[tuple[str, str], list[str]]) -> str:
    """Say what could not be expressed, and what is set up in another way."""
    lines = ["## What could not be said to them", ""]
    for (library, reason), names in missing.items():
        lines.append(f"- {library} {reason}: {', '.join(f'`{name}`' for name in names)}.")
    lines += ["", "## How they are set up", ""]
    lines += [f"- {library.name}: {'; '.join(library.notes)}." for library in ALL if library.notes]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) or 0)
