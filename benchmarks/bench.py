"""What a protected call costs, next to the other breakers, in one process and one run.

make bench                       every kind of call, into docs/performance.md
make bench ARGS=failure          some kinds, printed only
make bench ARGS=--quick          every kind in a few seconds, printed only: figures without meaning
"""

import sys
from collections.abc import Sequence
from typing import TypeAlias

from loguru import logger

from benchmarks import contenders, report
from benchmarks.contenders import Contender, RegionBreaker
from benchmarks.kinds import KINDS, AnyKind
from benchmarks.rounds import FULL, QUICK, Case, Rounds, extra, time_cases

Libraries: TypeAlias = Sequence[type[Contender]]

OURS = RegionBreaker.title()
PEER = "circuitbreaker"
EMPTY = "an empty wrapper"

INTRODUCTION = f"""\
# What a call costs

Every breaker has the same settings and is used through the decorator of its manual. All of them
are timed in one process, in turn, in {FULL.number} interleaved rounds of about
{FULL.seconds * 1000:g} ms each; no garbage collection happens during a round. The least of all
rounds is what a call costs when nothing else disturbs it; the median shows what it was on this
machine that day. The extra cost is what a breaker adds to the base, the row whose
last figure is 1.00: least minus least, and the median of the differences within the rounds."""

HEAD = ("", "ns per call", "extra ns, least", "extra ns, median", "times the base")


def cases(kind: AnyKind, libraries: Libraries) -> list[Case]:
    """Make the cases of a kind; the first one is the base."""
    with_retries = ((library, kind.with_own_retries(library)) for library in libraries)
    return [
        Case(kind.alone, kind.unprotected()),
        Case(EMPTY, kind.empty()),
        *(Case(library.title(), kind.protected(library)) for library in libraries),
        *(Case(f"{OURS}, {name}", make()) for name, make in kind.variants.items()),
        *(Case(f"{library.title()}, its own retries", run) for library, run in with_retries if run),
    ]


def table(timed: Sequence[Case]) -> str:
    """Lay out the cases of one kind, the cheapest first; the first case is the base."""
    base = timed[0]
    rows = []
    for case in sorted(timed, key=lambda case: case.best):
        name = f"**{case.name}**" if case.name.startswith(OURS) else case.name
        least, median = extra(case, base)
        added = ("", "") if case is base else (f"{least:,.0f}", f"{median:,.0f}")
        rows.append((name, f"{case.best:,.0f}", *added, f"{case.best / base.best:.2f}"))
    return report.table(HEAD, rows)


def dearer_than_peer(title: str, timed: Sequence[Case]) -> list[tuple[str, ...]]:
    """Return a row for each way of this package in which the call costs more than the peer's."""
    peers = [case for case in timed if case.name.startswith(PEER)]
    ours = [case for case in timed if case.name.startswith(OURS)]
    return [
        (
            title,
            case.name,
            f"{case.best:,.0f}",
            f"{peer.best:,.0f}",
            f"{case.best / peer.best - 1:.1%}",
        )
        for peer in peers
        for case in ours
        if case.best > peer.best
    ]


def comparison(rows: Sequence[tuple[str, ...]]) -> str:
    """Describe where a call is dearer than the peer's, and by which share."""
    heading = f"## Where a call is dearer than {PEER}'s"
    if not rows:
        return f"{heading}\n\nNowhere: of every kind above, the call here is the cheaper one."
    head = ("kind of call", "with", "ns here", f"ns with {PEER}", "dearer by")
    rest = "Each of the other kinds is cheaper here."
    return f"{heading}\n\n{report.table(head, rows)}\n\n{rest}"


def measure(libraries: Libraries, rounds: Rounds, wanted: Sequence[str] = ()) -> list[str]:
    """Time the kinds of calls that are wanted, or all; return the paragraphs of the page."""
    parts, dearer = [], []
    for name in wanted or KINDS:
        print(f"bench: {name}", file=sys.stderr, flush=True)
        kind = KINDS[name]
        timed = cases(kind, libraries)
        time_cases(timed, rounds)
        parts += [f"## {kind.title}", table(timed)]
        dearer += dearer_than_peer(kind.title, timed)
    return [*parts, comparison(dearer)]


def main(arguments: Sequence[str]) -> None:
    """Measure, and write the page unless only a part was wanted."""
    logger.remove()
    libraries = contenders.everyone()
    if arguments:
        quick = "--quick" in arguments
        wanted = [name for name in arguments if name != "--quick"]
        if not KINDS.keys() >= set(wanted):
            sys.exit(f"bench: the kinds of calls are {list(KINDS)}")
        print("\n\n".join(measure(libraries, QUICK if quick else FULL, wanted)))
        return
    where = report.origin("make bench", "tenacity", "loguru")
    parts = measure(libraries, FULL)
    rest = (contenders.notes(libraries), contenders.NOT_MEASURED)
    report.write("performance.md", INTRODUCTION, where, *parts, *rest)


if __name__ == "__main__":
    main(sys.argv[1:])
