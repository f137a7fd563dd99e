"""A question of `make bench`: what is timed, against what, and the table that answers it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from benchmarks import report
from benchmarks.contenders import ALL, OTHERS, CannotExpressError, Contender, RegionBreaker
from benchmarks.floors import EMPTY
from benchmarks.rounds import Case, extra, time_cases

OURS = RegionBreaker.title()
#: Makes the loop of one contender, or raises CannotExpressError.
Loop: TypeAlias = Callable[[Contender], Callable[[int], Any]]

HEAD = ("", "ns per call", "extra ns, least", "extra ns, median", "times the base")


@dataclass
class Question:
    """One table.

    Args:
        title: What is asked.
        base: The name of the case that the others are compared with.
        cases: All of them, the base among them.
        left_out: Who has no row, and why.
    """

    title: str
    base: str
    cases: list[Case]
    left_out: Sequence[str] = ()

    async def answer(self) -> tuple[str, ...]:
        """Time the cases; gives the table and what stands around it."""
        await time_cases(self.cases)
        base = self.case(self.base)
        rows = [_row(case, base) for case in sorted(self.cases, key=lambda case: case.best)]
        said = f"The base is {self.base}."
        missing = f"Left out: {'; '.join(self.left_out)}." if self.left_out else ""
        parts = (f"## {self.title}", said, report.table(HEAD, rows), self.ratios(base), missing)
        return tuple(part for part in parts if part)

    def case(self, name: str) -> Case:
        """Find a case by its name."""
        return next(case for case in self.cases if case.name == name)

    def ratios(self, base: Case) -> str:
        """Say how the extra cost of ours compares with the least of the others'."""
        ours = [case for case in self.cases if case.name.startswith(RegionBreaker.name)]
        others = [case for case in self.cases if case.name.startswith(_OTHER_NAMES)]
        floors = [case for case in self.cases if case.name == EMPTY]
        lines = []
        for mine in ours:
            adds = extra(mine, base)[0]
            if others:
                best = min(others, key=lambda case: case.best)
                ratio = adds / extra(best, base)[0]
                lines.append(f"- {mine.name} adds {ratio:.2f} times what {best.name} adds.")
            for floor in floors:
                ratio = adds / extra(floor, base)[0]
                lines.append(f"- {mine.name} adds {ratio:.2f} times what {floor.name} adds.")
        return "\n".join(lines)


def contenders(
    loop: Loop, listener: Callable[[str], object] | None = None, *, ours: bool = True
) -> tuple[list[Case], list[str]]:
    """Make a case of every contender; gives them, and who cannot express the question."""
    cases, left_out = [], []
    for library in ALL if ours else OTHERS:
        try:
            cases.append(Case(library.title(), loop(library(listener))))
        except CannotExpressError as reason:
            left_out.append(f"{library.name} ({reason})")
    return cases, left_out


def _row(case: Case, base: Case) -> tuple[str, ...]:
    name = f"**{case.name}**" if case.name.startswith(RegionBreaker.name) else case.name
    if case is base:
        return name, f"{case.best:,.0f}", "", "", "1.00"
    least, median = extra(case, base)
    return (
        name,
        f"{case.best:,.0f}",
        f"{least:,.0f}",
        f"{median:,.0f}",
        f"{case.best / base.best:.2f}",
    )


_OTHER_NAMES = tuple(library.name for library in OTHERS)
