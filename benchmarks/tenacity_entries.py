"""Count what a success through plain tenacity executes, by the file that it is in.

    make tenacity-entries                into where-the-time-goes.md
    make tenacity-entries ARGS=--names   the functions and how often each is entered, printed only

An entry is a function of Python that begins; a coroutine that goes on after a wait is none. The
instructions are those of the interpreter. Both are the same in each run.
"""

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import tenacity

from benchmarks import report
from benchmarks.calls import send, send_now, with_tenacity
from benchmarks.loops import Run, awaiting, calling

PAGE = "docs/explanation/where-the-time-goes.md"
HERE = Path(__file__).parent
TENACITY = Path(tenacity.__file__).parent

Entries: TypeAlias = Counter[tuple[str, str]]


def file_of(frame: FrameType) -> str:
    """Name the file of a frame; the benchmark's own have no name."""
    path = Path(frame.f_code.co_filename)
    if HERE in path.parents:
        return ""
    if TENACITY in path.parents:
        return f"tenacity/{path.relative_to(TENACITY)}"
    return path.name


def entries(run: Run) -> Entries:
    """Count the entries of one call, by file and function."""
    counted: Entries = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            counted[file_of(frame), frame.f_code.co_qualname] += 1

    run(2)
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run(1)
    finally:
        sys.setprofile(before)
    return Counter({place: number for place, number in counted.items() if place[0]})


def instructions(run: Run) -> Counter[str]:
    """Count the instructions of the interpreter in one call, by file."""
    counted: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        frame.f_trace_opcodes = True
        counted[file_of(frame)] += event == "opcode"
        return trace

    run(2)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run(1)
    finally:
        sys.settrace(before)
    del counted[""]
    return counted


def table(kinds: dict[str, Run]) -> str:
    """Lay out the files, those with the most entries first."""
    columns = []
    for run in kinds.values():
        entered: Counter[str] = Counter()
        for (file, _), number in entries(run).items():
            entered[file] += number
        columns += [entered, instructions(run)]
    files = [file for file, _ in columns[0].most_common()]
    rows = [(f"`{file}`", *(str(column[file]) for column in columns)) for file in files]
    rows.append(("**all**", *(f"**{column.total()}**" for column in columns)))
    head = [f"{name}: {what}" for name in kinds for what in ("entries", "instructions")]
    return report.table(("", *head), rows)


def kinds() -> dict[str, Run]:
    """Make the loops of both colours."""
    return {
        "`async def`": awaiting(with_tenacity(send)),
        "`def`": calling(with_tenacity(send_now)),
    }


def main(arguments: list[str]) -> None:
    """Write the table, or print the names."""
    if arguments == ["--names"]:
        for name, run in kinds().items():
            print(name)
            for (file, function), number in entries(run).most_common():
                print(f"    {number:3} {file}: {function}")
        return
    report.write_section(PAGE, "make tenacity-entries", table(kinds()))


if __name__ == "__main__":
    main(sys.argv[1:])
