"""Question (i): bytes per idle breaker, and what a call leaves behind."""

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

from benchmarks import report
from benchmarks.contenders import ALL, Contender, RegionBreaker
from benchmarks.contenders.base import REGION, THRESHOLD
from benchmarks.faults import ClientError, ServerError
from benchmarks.loops import MESSAGE
from benchmarks.scale import region_names

BREAKERS = 1_000
WARM_UP = 500
CALLS = 2_000


class Server:
    """Raises what it is told to, or nothing."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.error: Callable[[], Exception] | None = None

        async def send(region: str, message: str) -> str:
            del region
            if self.error is not None:
                raise self.error()
            return message

        self.protected = contender.protect(send)

    async def call(self, error: Callable[[], Exception] | None) -> None:
        """Make one call; what it raises is forgotten at once."""
        self.error = error
        try:
            await self.protected(REGION, MESSAGE)
        except Exception:
            return

    async def succeed(self) -> None:
        """Make a call that goes well."""
        await self.call(None)

    async def ignored(self) -> None:
        """Make a call whose error does not count."""
        await self.call(_not_found)

    async def fail(self) -> None:
        """Make a call that counts, often, but never so often in a row that the circuit opens."""
        for _ in range(THRESHOLD - 1):
            await self.call(_down)
        await self.call(None)

    async def rejected(self) -> None:
        """Make a call that is rejected."""
        while not self.contender.is_open():
            await self.call(_down)
        await self.call(None)


def _down() -> Exception:
    return ServerError(503)


def _not_found() -> Exception:
    return ClientError(404)


async def left_behind(work: Callable[[], Any], calls_each: int = 1) -> str:
    """Say how many bytes and how many objects of garbage cycles a call leaves."""
    times = CALLS // calls_each
    for _ in range(WARM_UP):
        await work()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(times):
        await work()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    garbage = gc.collect()
    gc.enable()
    # A few bytes in all are the measuring's own.
    return f"{max(0, after - before) / CALLS:.0f} / {garbage / CALLS:.1f}"


def idle(library: type[Contender]) -> str:
    """Say how many bytes a breaker takes that has nothing to do."""
    contender = library()
    names = region_names(BREAKERS + 10)
    kept: list[object] = [contender.another(name) for name in names[:10]]
    kept += [None] * BREAKERS
    gc.collect()
    tracemalloc.start()
    for number, name in enumerate(names[10:], start=10):
        kept[number] = contender.another(name)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return f"{taken / BREAKERS:,.0f}"


async def memory() -> tuple[str, ...]:
    """Make the table of what is kept."""
    rows = []
    for library in ALL:
        server = Server(library())
        cells = [idle(library), await left_behind(server.succeed)]
        cells.append(await left_behind(server.fail, calls_each=THRESHOLD))
        cells.append(await left_behind(server.ignored))
        cells.append(await left_behind(server.rejected))
        name = library.title()
        rows.append((f"**{name}**" if library is RegionBreaker else name, *cells))
    head = ("", "bytes per idle breaker", "success", "failure", "ignored error", "rejection")
    said = (
        f"The first figure is the share of each of {BREAKERS:,} breakers, with its place in the "
        "library's own registry where it has one. The others are what one call leaves behind until "
        "the next garbage collection: bytes / objects in garbage cycles."
    )
    return "## (i) Memory", said, report.table(head, rows)
