"""What a protected call costs, beside the other breakers, in one process and one run.

make bench                  all questions, into docs/performance.md
make bench ARGS="a f"       some of them, printed only
"""

import asyncio
import inspect
import sys
from collections.abc import Callable
from typing import Any

from loguru import logger

from benchmarks import calls, imports, ladder, memory, report, rounds, scale, stacked
from benchmarks.contenders import ALL
from benchmarks.question import Question

INTRODUCTION = f"""\
# What a call costs

Every breaker is set up as the mission says and used through the decorator of its manual. All of
them are timed in one process, in turn, in {rounds.ROUNDS} interleaved rounds of about
{rounds.ROUND_SECONDS * 1000:g} ms each; no garbage collection falls into a round. The least of all
rounds is what a call costs when nothing else disturbs it; the median says how it was on this
machine that day. The extra cost is what a breaker adds to the base, which is named over each table:
least minus least, and the median of the differences within the rounds."""

QUESTIONS: dict[str, list[Callable[[], Any]]] = {
    "a": [calls.success],
    "b": [calls.dotted_path],
    "c": [calls.sync_success],
    "d": [calls.success_in_a_streak],
    "e": [calls.ignored_status, calls.ignored_bug],
    "f": [calls.rejection],
    "g": [stacked.stacked, stacked.stacked_sync],
    "h": [scale.regions, scale.tasks, scale.threads],
    "i": [memory.memory],
    "j": [imports.imports],
    "k": [calls.success_with_listener],
    "l": [ladder.ladder],
}


async def answer(letter: str) -> list[str]:
    """Answer one question; gives its paragraphs."""
    parts: list[str] = []
    for ask in QUESTIONS[letter]:
        print(f"bench: ({letter}) {ask.__name__}", file=sys.stderr, flush=True)
        asked = ask()
        if isinstance(asked, Question):
            asked = asked.answer()
        parts += await asked if inspect.isawaitable(asked) else asked
    return parts


def notes() -> str:
    """Say what was set up in another way than the rest, and what could not be said at all."""
    lines = [f"- {library.name}: {'; '.join(library.notes)}." for library in ALL if library.notes]
    return "\n".join(("## How the others are set up", "", *lines))


async def main(letters: list[str]) -> None:
    """Answer the questions, and write the page when it is all of them."""
    logger.remove()
    parts = [part for letter in letters or QUESTIONS for part in await answer(letter)]
    if letters:
        print("\n\n".join(parts))
        return
    where = report.origin("make bench", "tenacity", "loguru")
    report.write("performance.md", INTRODUCTION, where, *parts, notes())
    report.renew_quotes("docs/explanation/where-the-time-goes.md", "\n".join(parts))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
