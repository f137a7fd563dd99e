"""An outage on real HTTP: one of two regions goes down, and comes back.

Two regions, each a FakeGenesys: an HTTP server of its own on this machine. Eight workers a region
take messages from its queue and send them with aiohttp. `send` is a coroutine under a circuit
breaker per region, with tenacity's retries inside.

While us-east-1 is down its circuit keeps every call away from it, one probe each 2 seconds apart.
A rejected message goes back to its queue and comes again when the circuit says so; nothing is lost.
eu-west-1 does not notice. At the end the numbers are checked, and a false claim is an exit code.

The recovery timeout is 2 s here, where T10 has 60 s. All other thresholds are T10's.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

import aiohttp
from aiohttp import web
from loguru import logger
from rich import box
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from tenacity import wait_random

from resilience import (
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    StateChanged,
    region_breaker,
)
from resilience.integrations.status_page import status_page
from resilience.retry import transient_retry
from resilience.testing import FakeGenesys

HEALTHY, FAILING = "eu-west-1", "us-east-1"
POLICY = BreakerPolicy(recovery_timeout=2.0)
WORKERS = 8  # for each region
MESSAGES_PER_SECOND = 40  # for each region
LATENCY = 0.02  # seconds that a good answer takes
ATTEMPTS = 3  # for each call
FAILED_PROBES = 2  # before the region comes back
TIME_LIMIT = 30.0  # seconds for everything

circuits = CircuitBreakerRegistry(POLICY)


# --- the worker: what a service would have --------------------------------------------------------


@region_breaker(region_from="region.name", registry=circuits)
@transient_retry(attempts=ATTEMPTS, wait=wait_random(0.05, 0.15))
async def send(region: Region, message: Message) -> None:
    message.requests += 1
    region.started += 1
    headers = {"Authorization": f"Bearer {region.token}"}
    url = region.server.message_url()
    async with region.session.post(url, json=message.body(), headers=headers):
        pass  # the session raises for a status of 400 and up


async def work(region: Region) -> None:
    while True:
        message = await region.queue.get()
        requests, begin = message.requests, time.perf_counter()
        try:
            await send(region, message)
        except CircuitBreakerOpenError as error:
            if message.requests == requests:
                region.now.rejections.append(time.perf_counter() - begin)
            else:  # its retries were cut short
                region.now.failed += 1
            # Without the jitter, all of them would come back in the same instant.
            region.queue.nack(message, (error.retry_after or 1.0) + random.uniform(0, 0.3))
        except (aiohttp.ClientError, TimeoutError):
            region.now.failed += 1
            region.queue.nack(message, 0.5)
        else:
            region.now.delivered += 1
            region.queue.ack()


@dataclass
class Message:
    """One message of a tenant's customer."""

    id: str
    requests: int = 0

    def body(self) -> dict[str, object]:
        """Give the body that Open Messaging expects."""
        sender = {"id": "+353-1-555-0100", "idType": "Phone"}
        sent_at = datetime.now(UTC).isoformat()
        return {
            "channel": {"from": sender, "time": sent_at, "messageId": self.id},
            "text": "hello",
        }


class Queue:
    """A broker's queue, in memory: a message leaves it when it is acknowledged."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[Message] = asyncio.Queue()
        self._empty = asyncio.Event()
        self.unacknowledged = 0

    def put(self, message: Message) -> None:
        """Take a new message."""
        self.unacknowledged += 1
        self._empty.clear()
        self._ready.put_nowait(message)

    async def get(self) -> Message:
        """Hand out the next message."""
        return await self._ready.get()

    def ack(self) -> None:
        """Forget a message: it was delivered."""
        self.unacknowledged -= 1
        if not self.unacknowledged:
            self._empty.set()

    def nack(self, message: Message, delay: float) -> None:
        """Take a message back, and hand it out again after so many seconds."""
        asyncio.get_running_loop().call_later(delay, self._ready.put_nowait, message)

    async def wait_until_empty(self) -> None:
        """Wait until every message is acknowledged."""
        await self._empty.wait()


# --- the story: what happens to the two regions ---------------------------------------------------


@dataclass
class Count:
    """What happened to one region in one phase."""

    phase: str
    requests_before: int
    requests: int = 0
    delivered: int = 0
    failed: int = 0
    rejections: list[float] = field(default_factory=list[float])  # seconds that each one took

    @property
    def sent(self) -> int:
        """How often a worker called `send`."""
        return self.delivered + self.failed + len(self.rejections)


@dataclass
class Moment:
    """A change of the circuit, and how many requests there were until then."""

    state: CircuitState
    started: int  # by the workers
    received: int  # by the server


@dataclass
class Region:
    """One region: its server, its queue, and what was seen."""

    name: str
    server: FakeGenesys
    session: aiohttp.ClientSession
    token: str = ""
    mode: str = "up"
    produced: int = 0
    started: int = 0
    queue: Queue = field(default_factory=Queue)
    counts: list[Count] = field(default_factory=list[Count])
    moments: list[Moment] = field(default_factory=list[Moment])
    changes: asyncio.Queue[StateChanged] = field(default_factory=asyncio.Queue[StateChanged])

    @property
    def now(self) -> Count:
        """The counts of the present phase."""
        return self.counts[-1]

    def note(self, state: CircuitState) -> None:
        """Write down how many requests there are at this moment."""
        self.moments.append(Moment(state, self.started, self.server.requests))

    def enter(self, phase: str) -> None:
        """Count for a new phase from here on."""
        self.end_phase()
        self.counts.append(Count(phase, self.server.requests))

    def end_phase(self) -> None:
        """Write down the requests of the present phase."""
        if self.counts:
            self.now.requests = self.server.requests - self.now.requests_before


async def produce(region: Region) -> None:
    while True:
        region.produced += 1
        region.queue.put(Message(f"{region.name}-{region.produced}"))
        await asyncio.sleep(1 / MESSAGES_PER_SECOND)


async def tell_story(healthy: Region, failing: Region, diary: Diary) -> None:
    """Take one region down and bring it back; return when both circuits are CLOSED again."""

    def begin(phase: str, text: str) -> None:
        diary.write("PHASE", text)
        for region in (healthy, failing):
            region.enter(phase)

    begin("both up", "both regions are up")
    await asyncio.sleep(3)

    begin("one down", f"{failing.name} goes down: it answers 503")
    failing.server.fail(503)
    failing.mode = "503"
    for _ in range(FAILED_PROBES):
        await change(failing, CircuitState.HALF_OPEN, CircuitState.OPEN)
    await asyncio.sleep(1)

    begin("back up", f"{failing.name} is back up, and nobody tells its circuit")
    failing.server.up()
    failing.mode = "up"
    await change(failing, CircuitState.HALF_OPEN, CircuitState.CLOSED)

    begin("recovered", "both regions are up, the backlog is worked off")
    await asyncio.sleep(2.5)


async def change(region: Region, old: CircuitState, new: CircuitState) -> None:
    while True:
        event = await region.changes.get()
        if (event.old, event.new) == (old, new):
            return


async def run(diary: Diary, screen: Screen | None) -> list[Region]:
    """Run everything, and give the regions with their numbers."""
    async with open_regions() as regions, serve_page() as address, asyncio.TaskGroup() as tasks:
        diary.page = address
        diary.write("INFO", f"the status page is at {address} while this runs")
        workers = [tasks.create_task(work(region)) for region in regions for _ in range(WORKERS)]
        if screen is not None:
            workers.append(tasks.create_task(screen.paint(regions)))
        producers = [tasks.create_task(produce(region)) for region in regions]
        healthy, failing = regions
        try:
            async with asyncio.timeout(TIME_LIMIT):
                await tell_story(healthy, failing, diary)
                cancel(producers)
                for region in regions:
                    await region.queue.wait_until_empty()
        except TimeoutError:  # the claims will say what is missing
            diary.write("ERROR", f"not over after {TIME_LIMIT:g} s")
        for region in regions:
            region.end_phase()
            region.note(circuits.get(region.name).state)
        cancel(producers)
        cancel(workers)
    return regions


def cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()


@asynccontextmanager
async def serve_page() -> AsyncIterator[str]:
    runner = web.AppRunner(status_page(circuits), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


@asynccontextmanager
async def open_regions() -> AsyncIterator[list[Region]]:
    async with AsyncExitStack() as stack:
        regions: dict[str, Region] = {}
        for name in (HEALTHY, FAILING):
            server = await stack.enter_async_context(FakeGenesys(latency=LATENCY))
            timeout = aiohttp.ClientTimeout(total=10)
            session = aiohttp.ClientSession(raise_for_status=True, timeout=timeout)
            await stack.enter_async_context(session)
            regions[name] = Region(name, server, session, token=server.issue_token())
            regions[name].note(circuits.get(name).state)

        def listen(event: StateChanged) -> None:
            regions[event.region].note(event.new)
            regions[event.region].changes.put_nowait(event)

        stack.callback(circuits.listen(listen))
        yield list(regions.values())


# --- the claims: what must have been true ---------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What was seen of one region."""

    region: str
    path: tuple[CircuitState, ...]  # the states of its circuit, in order
    trips: int
    probes: int
    rejected: int  # as the workers counted
    rejected_by_circuit: int
    produced: int
    delivered: int  # different messages that the server has
    duplicates: int
    requests_started: int
    requests_received: int
    on_the_wire: int  # started, but not received yet, when the circuit opened
    started_while_open: int
    started_while_half_open: int


class Claim(NamedTuple):
    """Something the demo says, with its numbers."""

    true: bool
    text: str


def gather(region: Region) -> Facts:
    snapshot = circuits.get(region.name).snapshot()
    stays = list(pairwise(region.moments))
    is_open = [(a, b) for a, b in stays if a.state is CircuitState.OPEN]
    is_half_open = [(a, b) for a, b in stays if a.state is CircuitState.HALF_OPEN]
    delivered = Counter(body["channel"]["messageId"] for body in region.server.messages)
    return Facts(
        region=region.name,
        path=tuple(a.state for a, _ in stays),
        trips=snapshot.trips,
        probes=snapshot.probes,
        rejected=sum(len(count.rejections) for count in region.counts),
        rejected_by_circuit=snapshot.rejected,
        produced=region.produced,
        delivered=len(delivered),
        duplicates=delivered.total() - len(delivered),
        requests_started=region.started,
        requests_received=region.server.requests,
        on_the_wire=sum(a.started - a.received for a, _ in is_open),
        # The server's own count has a say too: more than was on the wire must not arrive.
        started_while_open=sum(max(b.started, b.received) - a.started for a, b in is_open),
        started_while_half_open=sum(b.started - a.started for a, b in is_half_open),
    )


def check(healthy: Facts, failing: Facts, seconds: float) -> list[Claim]:
    """Judge what the demo claims."""
    opened = failing.path.count(CircuitState.OPEN)
    return [
        Claim(
            failing.trips == 1 and failing.path[-1] is CircuitState.CLOSED,
            f"{failing.region}: the circuit tripped {failing.trips} time, was OPEN {opened} times,"
            f" is {failing.path[-1]} now",
        ),
        Claim(
            failing.started_while_open == 0,
            f"{failing.region}: {failing.started_while_open} requests started while OPEN"
            f" ({failing.on_the_wire} on the wire as it opened)",
        ),
        Claim(
            failing.started_while_half_open == failing.probes > 0,
            f"{failing.region}: {failing.started_while_half_open} requests started while HALF_OPEN,"
            f" for {failing.probes} probes",
        ),
        Claim(
            failing.rejected == failing.rejected_by_circuit > 0,
            f"{failing.region}: {failing.rejected} calls rejected in-process,"
            f" {failing.rejected_by_circuit} by the count of its circuit",
        ),
        *check_delivery(failing),
        Claim(
            healthy.path == (CircuitState.CLOSED,) and healthy.rejected == 0,
            f"{healthy.region}: the circuit was {', '.join(healthy.path)} all the time,"
            f" {healthy.rejected} calls rejected",
        ),
        *check_delivery(healthy),
        Claim(seconds <= TIME_LIMIT, f"it took {seconds:.1f} s, at most {TIME_LIMIT:g} s"),
    ]


def check_delivery(facts: Facts) -> list[Claim]:
    return [
        Claim(
            facts.delivered == facts.produced > 0 and facts.duplicates == 0,
            f"{facts.region}: {facts.delivered} of {facts.produced} messages delivered,"
            f" {facts.duplicates} twice",
        ),
        Claim(
            facts.requests_started == facts.requests_received,
            f"{facts.region}: {facts.requests_started} requests by the workers' count,"
            f" {facts.requests_received} by the server's",
        ),
    ]


# --- the screen -----------------------------------------------------------------------------------

STYLES = {
    "CLOSED": "green",
    "OPEN": "bold red",
    "HALF_OPEN": "yellow",
    "PHASE": "bold cyan",
    "ERROR": "red",
    "WARNING": "yellow",
    "INFO": "green",
}
BARS = "▁▂▃▄▅▆▇█"
SAMPLE = 0.25  # seconds between two frames, and that one bar stands for


class Diary:
    """What happened and when: the phases, and the package's own log."""

    def __init__(self, console: Console, *, live: bool) -> None:
        self._console = console
        self._live = live
        self._begin = time.monotonic()
        self.entries: list[tuple[float, str, str]] = []
        self.page = ""

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._begin

    def write(self, level: str, text: str) -> None:
        """Add an entry, and print it where there is no live screen."""
        self.entries.append((self.seconds, level, text))
        if not self._live:
            print(f"{self.seconds:5.1f} s  {level:7}  {text}", flush=True)

    @contextmanager
    def follow_log(self) -> Iterator[None]:
        """Have the log of the package written here, and nowhere else."""
        logger.remove()
        sink = logger.add(
            lambda line: self.write(line.record["level"].name, line.record["message"]),
            filter="resilience",
        )
        try:
            yield
        finally:
            logger.remove(sink)

    def table(self, last: int = 0) -> Table:
        """Show the last entries, or all."""
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", style="dim", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column()
        for at, level, text in self.entries[-last:]:
            style = STYLES.get(level, "")
            table.add_row(f"{at:.1f} s", Text(level, style), Text(text, style))
        return table


class Screen:
    """The live view: the two regions side by side, and the diary below."""

    def __init__(self, console: Console, live: Live, diary: Diary) -> None:
        self._console = console
        self._live = live
        self._diary = diary
        self._bars: dict[str, deque[int]] = {}
        self._received: Counter[str] = Counter()

    async def paint(self, regions: list[Region]) -> None:
        """Draw a frame every so often, until it is cancelled."""
        while True:
            for region in regions:
                bars = self._bars.setdefault(region.name, deque(maxlen=200))
                bars.append(region.server.requests - self._received[region.name])
                self._received[region.name] = region.server.requests
            self._live.update(self._frame(regions), refresh=True)
            await asyncio.sleep(SAMPLE)

    def _frame(self, regions: list[Region]) -> RenderableType:
        width = self._console.width // 2
        panels = [self._panel(region, width) for region in regions]
        # Each entry may take two lines of a narrow screen.
        room = max(1, (self._console.height - 15) // (1 if self._console.width >= 110 else 2))
        now = f"{self._diary.seconds:4.1f} s  {regions[0].now.phase}  {self._diary.page}"
        clock = Text(now, STYLES["PHASE"])
        log = self._diary.table(last=room)
        return Group(headline(), Text(), clock, Columns(panels, padding=0), log)

    def _panel(self, region: Region, width: int) -> Panel:
        circuit = circuits.get(region.name)
        state, retry_after = circuit.state, circuit.retry_after
        shown = Text(state, STYLES[state])
        if state is CircuitState.OPEN and retry_after is not None:
            shown.append(f"  probe in {retry_after:.1f} s", "dim")
        rows = Table.grid(padding=(0, 2))
        rows.add_column(no_wrap=True)
        rows.add_column(no_wrap=True)
        rows.add_row("server", Text(region.mode, "green" if region.mode == "up" else "bold red"))
        rows.add_row("circuit", shown)
        rows.add_row("delivered", str(sum(count.delivered for count in region.counts)))
        rows.add_row("rejected", str(sum(len(count.rejections) for count in region.counts)))
        rows.add_row("in the queue", str(region.queue.unacknowledged))
        rows.add_row("requests", sparkline(list(self._bars[region.name])[-(width - 20) :]))
        style = "green" if state is CircuitState.CLOSED else STYLES[state]
        return Panel(rows, title=region.name, border_style=style, width=width)


def sparkline(values: list[int]) -> Text:
    """Draw requests over time: half a bar is what comes in, a dot is no request at all."""
    usual = MESSAGES_PER_SECOND * SAMPLE
    text = Text(no_wrap=True)
    for value in values:
        level = min(int(value / usual * len(BARS) / 2), len(BARS) - 1)
        text.append(BARS[level] if value else "·", "cyan" if value else "dim")
    return text


def headline() -> Text:
    return Text(
        f"An outage on real HTTP. Recovery timeout {POLICY.recovery_timeout:g} s here (T10: 60 s);"
        f" opens after {POLICY.failure_threshold} failed calls,"
        f" closes after {POLICY.success_threshold} good probes."
    )


def numbers(regions: list[Region]) -> Table:
    table = Table(
        title="What each phase saw", title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0)
    )
    for name in ("phase", "region"):
        table.add_column(name, no_wrap=True)
    for name in ("sent", "delivered", "rejected", "failed", "requests", "rejection"):
        table.add_column(name, justify="right", no_wrap=True)
    for counts in zip(*(region.counts for region in regions), strict=True):
        for region, count in zip(regions, counts, strict=True):
            times = count.rejections
            table.add_row(
                count.phase if region is regions[0] else "",
                region.name,
                *map(str, (count.sent, count.delivered, len(times), count.failed, count.requests)),
                f"{statistics.median(times) * 1e6:.0f} µs" if times else "-",
                end_section=region is regions[-1],
            )
    return table


LEGEND = f"""\
sent       calls of send(); a message that was rejected or failed is sent again
rejected   by the circuit, in-process, without a request
failed     after {ATTEMPTS} attempts, or fewer once the circuit had opened
requests   that reached the server
rejection  how long one took, median
"""


def conclude(claims: list[Claim]) -> int:
    """Print the claims; the exit code is 1 if one is false."""
    for claim in claims:
        print("ok   " if claim.true else "FALSE", claim.text)
    wrong = sum(not claim.true for claim in claims)
    if wrong:
        print(f"\nerror: {wrong} of {len(claims)} claims are false", file=sys.stderr)
        return 1
    print(f"\nAll {len(claims)} claims are true.")
    return 0


async def play(console: Console, diary: Diary, *, live: bool) -> list[Region]:
    """Run it with the screen that fits the output."""
    if not live:
        console.print(headline(), soft_wrap=True)
        return await run(diary, None)
    with Live(console=console, auto_refresh=False, transient=True) as view:
        return await run(diary, Screen(console, view, diary))


def main() -> int:
    console = Console()
    live = sys.stdout.isatty() and not console.is_dumb_terminal
    diary = Diary(console, live=live)
    try:
        with diary.follow_log():
            regions = asyncio.run(play(console, diary, live=live))
    except ExceptionGroup as group:  # a worker broke, and ended all the others
        raise group.exceptions[0] from None
    except KeyboardInterrupt:
        return 130
    if live:
        console.print(headline(), "", diary.table())
    console.print("", numbers(regions))
    print(LEGEND)
    healthy, failing = map(gather, regions)
    return conclude(check(healthy, failing, diary.seconds))


if __name__ == "__main__":
    sys.exit(main())
