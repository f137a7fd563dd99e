"""The scoreboard: every breaker in the same situations, judged by what reached the server.

make scoreboard                                            all, into docs/scoreboard.md
make scoreboard ARGS="pybreaker late-success-in-open"      one cell, printed
"""

import sys
from collections.abc import Sequence

from loguru import logger

from benchmarks import contenders, report
from benchmarks.contenders import Contender
from benchmarks.scenarios import SCENARIOS
from resilience.testing.conformance.suite import Check

INTRODUCTION = """\
# Scoreboard

Every breaker has the same settings (ten failures in a row open it, after 60 seconds it may be
tried again, three successes close it; 5xx, timeouts and connection errors count, 4xx never), is
put into the same situation, and is judged by what reached the server. Time is moved by hand under
each library, so that nothing depends on how fast the machine is.

Each cell can be had by itself: `make scoreboard ARGS="pybreaker late-success-in-open"`."""

READING = """\
## How to read it

- **Calls from before the opening** began while the circuit was CLOSED, and end in another state.
  What they report is about a time that is over.
- **At the half-open instant** a server is just getting up. Not everybody should call it then.
- **A probe that was cancelled** has said nothing about the server: HALF_OPEN means that it has
  not closed the circuit. A breaker that counts what is excluded as a success closes over it.
- **`probes-refused`**: a server that answers with a 404 is up. A circuit that stays HALF_OPEN
  then goes on rejecting calls for as long as every call is refused.
- **`probe-hung`**: a breaker that limits its probes must get a place back from one that never
  ends. One that lets every call through cannot get stuck here.
- **`retry-error`**: the filter of the other libraries does not look into a `RetryError`. With
  `reraise=True` in tenacity, or more in the filter, they open too.
- **`retry-storm`** is the one of [its own page](storm.md).
- **`threads-in-closed`**: a breaker that holds a lock while the function runs lets in one thread
  at a time.

In the README are the rows in which the libraries differ most."""

#: The rows that the README quotes.
QUOTED = (
    "half-open-crowd",
    "probe-hung",
    "late-success-in-half-open",
    "late-failures-in-new-closed",
    "retry-storm",
    "wall-clock-back",
)
TITLES = {
    scenario.__name__.replace("_", "-"): (scenario.__doc__ or "").rstrip(".")
    for scenario in SCENARIOS
}


def cell(library: type[Contender], name: str) -> str:
    """Play one scenario with one library."""
    scenario = next(one for one in SCENARIOS if one.__name__ == name.replace("-", "_"))
    return Check(scenario).run(library).answer


def table(libraries: Sequence[type[Contender]], names: Sequence[str]) -> str:
    """Play these scenarios with every library."""
    head = ("", "name", *(library.title() for library in libraries))
    rows = [
        (TITLES[name], f"`{name}`", *(cell(library, name) for library in libraries))
        for name in names
    ]
    return report.table(head, rows)


def main(wanted: list[str]) -> str:
    """Print what is wanted, or write the page; return an error text, or nothing."""
    logger.remove()
    libraries = contenders.everyone()
    if not wanted:
        where = report.origin("make scoreboard", "tenacity")
        rest = (READING, contenders.notes(libraries), contenders.NOT_MEASURED)
        report.write("scoreboard.md", INTRODUCTION, where, table(libraries, list(TITLES)), *rest)
        report.write_section("README.md", "make scoreboard", table(libraries, QUOTED))
        return ""
    by_name = {library.name: library for library in libraries}
    if len(wanted) != 2 or wanted[0] not in by_name or wanted[1] not in TITLES:
        return f"scoreboard: one of {', '.join(by_name)}; one of {', '.join(TITLES)}"
    print(cell(by_name[wanted[0]], wanted[1]))
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) or 0)
