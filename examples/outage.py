"""An outage on real HTTP: one of two regions goes down, and comes back.

Each of the two regions is a FakeGenesys, a real HTTP server on this machine. Eight workers per
region take messages from its queue and send them with aiohttp. `send` is protected by one circuit
per region, with tenacity's retries inside.

While us-east-1 is down, its circuit rejects every call, except for one probe every 2 seconds. A
rejected message goes back to its queue until the circuit may admit it, and no message is lost.
eu-west-1 is not affected. At the end, the numbers are checked. The exit code is 1 if a claim is
false.

The recovery timeout is 2 s here instead of 60 s. All other thresholds are the defaults.
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
WORKERS = 8  # per region
MESSAGES_PER_SECOND = 40  # per region
LATENCY = 0.02  # seconds that a successful request takes
ATTEMPTS = 3  # per call
FAILED_PROBES = 2  # before the region comes back
TIME_LIMIT = 30.0  # seconds for the whole demo

circuits = CircuitBreakerRegistry(POLICY)


# --- the worker: what a real service has ----------------------------------------------------------


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
            else:  # the circuit opened between two attempts
                region.now.failed += 1
            # Without jitter, all rejected messages would come back at the same moment.
            region.queue.nack(message, (error.retry_after or 1.0) + random.uniform(0, 0.3))
        except (aiohttp.ClientError, TimeoutError):
            region.now.failed += 1
            region.queue.nack(message, 0.5)
        else:
            region.now.delivered += 1
            region.queue.ack()


@dataclass
class Message:
    """One message from a customer of a tenant."""

    id: str
    requests: int = 0

    def body(self) -> dict[str, object]:
        """Return the body that Open Messaging expects."""
        sender = {"id": "+353-1-555-0100", "idType": "Phone"}
        sent_at = datetime.now(UTC).isoformat()
        return {
            "channel": {"from": sender, "time": sent_at, "messageId": self.id},
            "text": "hello",
        }


class Queue:
    """The queue of a broker, in memory: a message leaves it when it is acknowledged."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[Message] = asyncio.Queue()
        self._empty = asyncio.Event()
        self.unacknowledged = 0

    def put(self, message: Message) -> None:
        """Add a new message."""
        self.unacknowledged += 1
        self._empty.clear()
        self._ready.put_nowait(message)

    async def get(self) -> Message:
        """Deliver the next message."""
        return await self._ready.get()

    def ack(self) -> None:
        """Remove a message that was delivered."""
        self.unacknowledged -= 1
        if not self.unacknowledged:
            self._empty.set()

    def nack(self, message: Message, delay: float) -> None:
        """Return a message, to be redelivered after this many seconds."""
        asyncio.get_running_loop().call_later(delay, self._ready.put_nowait, message)

    async def wait_until_empty(self) -> None:
        """Wait until every message is acknowledged."""
        await self._empty.wait()


# --- the scenario: what happens to the two regions ------------------------------------------------


@dataclass
class Count:
    """What happened to one region in one phase."""

    phase: str
    requests_before: int
    requests: int = 0
    delivered: int = 0
    failed: int = 0
    rejections: list[float] = field(default_factory=list[float])  # seconds, one entry each

    @property
    def sent(self) -> int:
        """How often the workers called `send`."""
        return self.delivered + self.failed + len(self.rejections)


@dataclass
class Change:
    """A change of the circuit's state, and the number of requests until then."""

    state: CircuitState
    started: int  # requests by the workers
    received: int  # requests at the server


@dataclass
class Region:
    """One region: its server, its queue, and what was measured."""

    name: str
    server: FakeGenesys
    session: aiohttp.ClientSession
    token: str = ""
    mode: str = "up"
    produced: int = 0
    started: int = 0
    queue: Queue = field(default_factory=Queue)
    counts: list[Count] = field(default_factory=list[Count])
    changes: list[Change] = field(default_factory=list[Change])
    events: asyncio.Queue[StateChanged] = field(default_factory=asyncio.Queue[StateChanged])

    @property
    def now(self) -> Count:
        """The counts of the current phase."""
        return self.counts[-1]

    def record_change(self, state: CircuitState) -> None:
        """Record the number of requests at this moment."""
        self.changes.append(Change(state, self.started, self.server.requests))

    def begin_phase(self, phase: str) -> None:
        """Count for a new phase from now on."""
        self.end_phase()
        self.counts.append(Count(phase, self.server.requests))

    def end_phase(self) -> None:
        """Record the requests of the current phase."""
        if self.counts:
            self.now.requests = self.server.requests - self.now.requests_before


async def produce(region: Region) -> None:
    while True:
        region.produced += 1
        region.queue.put(Message(f"{region.name}-{region.produced}"))
        await asyncio.sleep(1 / MESSAGES_PER_SECOND)


async def run_scenario(healthy: Region, failing: Region, diary: Diary) -> None:
    """Take one region down and bring it back; return when both circuits are CLOSED again."""

    def begin(phase: str, text: str) -> None:
        diary.write("PHASE", text)
        for region in (healthy, failing):
            region.begin_phase(phase)

    begin("both up", "both regions are up")
    await asyncio.sleep(3)

    begin("one down", f"{failing.name} goes down: it answers 503")
    failing.server.fail(503)
    failing.mode = "503"
    for _ in range(FAILED_PROBES):
        await transition(failing, CircuitState.HALF_OPEN, CircuitState.OPEN)
    await asyncio.sleep(1)

    begin("back up", f"{failing.name} is back up; its circuit has to find out")
    failing.server.up()
    failing.mode = "up"
    await transition(failing, CircuitState.HALF_OPEN, CircuitState.CLOSED)

    begin("recovered", "both regions are up; the workers drain the backlog")
    await asyncio.sleep(2.5)


async def transition(region: Region, old: CircuitState, new: CircuitState) -> None:
    """Wait for this transition."""
    while True:
        event = await region.events.get()
        if (event.old, event.new) == (old, new):
            return


async def run(diary: Diary, screen: Screen | None) -> list[Region]:
    """Run the demo, and return the regions with their numbers."""
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
                await run_scenario(healthy, failing, diary)
                cancel(producers)
                for region in regions:
                    await region.queue.wait_until_empty()
        except TimeoutError:  # the claims show what is missing
            diary.write("ERROR", f"not finished after {TIME_LIMIT:g} s")
        for region in regions:
            region.end_phase()
            region.record_change(circuits.get(region.name).state)
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
            timeout = aiohttp.ClientTimeout(sock_connect=5, sock_read=10)
            session = aiohttp.ClientSession(raise_for_status=True, timeout=timeout)
            await stack.enter_async_context(session)
            regions[name] = Region(name, server, session, token=server.issue_token())
            regions[name].record_change(circuits.get(name).state)

        def listen(event: StateChanged) -> None:
            regions[event.region].record_change(event.new)
            regions[event.region].events.put_nowait(event)

        stack.callback(circuits.listen(listen))
        yield list(regions.values())


# --- the claims -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What was measured for one region."""

    region: str
    path: tuple[CircuitState, ...]  # the states of its circuit, in order
    trips: int
    probes: int
    rejected: int  # counted by the workers
    rejected_by_circuit: int
    produced: int
    delivered: int  # distinct messages at the server
    duplicates: int
    requests_started: int
    requests_received: int
    on_the_wire: int  # started, but not yet received, when the circuit opened
    started_while_open: int
    started_while_half_open: int


class Claim(NamedTuple):
    """Something that the demo claims, with its numbers."""

    true: bool
    text: str


def gather(region: Region) -> Facts:
    snapshot = circuits.get(region.name).snapshot()
    periods = list(pairwise(region.changes))
    is_open = [(a, b) for a, b in periods if a.state is CircuitState.OPEN]
    is_half_open = [(a, b) for a, b in periods if a.state is CircuitState.HALF_OPEN]
    delivered = Counter(body["channel"]["messageId"] for body in region.server.messages)
    return Facts(
        region=region.name,
        path=tuple(a.state for a, _ in periods),
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
        # By the server's count as well: no more may arrive than was on the wire.
        started_while_open=sum(max(b.started, b.received) - a.started for a, b in is_open),
        started_while_half_open=sum(b.started - a.started for a, b in is_half_open),
    )


def check(healthy: Facts, failing: Facts, seconds: float) -> list[Claim]:
    """Check the claims of the demo."""
    opened = failing.path.count(CircuitState.OPEN)
    return [
        Claim(
            failing.trips == 1 and failing.path[-1] is CircuitState.CLOSED,
            f"{failing.region}: the circuit tripped {failing.trips} time, was OPEN {opened} times,"
            f" and is {failing.path[-1]} now",
        ),
        Claim(
            failing.started_while_open == 0,
            f"{failing.region}: {failing.started_while_open} requests started while OPEN"
            f" ({failing.on_the_wire} were on the wire when it opened)",
        ),
        Claim(
            failing.started_while_half_open == failing.probes > 0,
            f"{failing.region}: {failing.started_while_half_open} requests started while HALF_OPEN,"
            f" for {failing.probes} probes",
        ),
        Claim(
            failing.rejected == failing.rejected_by_circuit > 0,
            f"{failing.region}: {failing.rejected} calls rejected in-process,"
            f" {failing.rejected_by_circuit} according to its circuit",
        ),
        *check_delivery(failing),
        Claim(
            healthy.path == (CircuitState.CLOSED,) and healthy.rejected == 0,
            f"{healthy.region}: the circuit was {', '.join(healthy.path)} throughout,"
            f" {healthy.rejected} calls rejected",
        ),
        *check_delivery(healthy),
        Claim(seconds <= TIME_LIMIT, f"the demo took {seconds:.1f} s, at most {TIME_LIMIT:g} s"),
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
            f"{facts.region}: {facts.requests_started} requests started by the workers,"
            f" {facts.requests_received} received by the server",
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
SAMPLE = 0.25  # seconds between two frames; each bar stands for one of them


class Diary:
    """What happened and when: the phases, and the log of the package."""

    def __init__(self, console: Console, *, live: bool) -> None:
        self._console = console
        self._live = live
        self._begin = time.monotonic()
        self.entries: list[tuple[float, str, str]] = []
        self.page = ""

    @property
    def seconds(self) -> float:
        """How long the demo has taken so far."""
        return time.monotonic() - self._begin

    def write(self, level: str, text: str) -> None:
        """Add an entry, and print it where there is no live screen."""
        self.entries.append((self.seconds, level, text))
        if not self._live:
            print(f"{self.seconds:5.1f} s  {level:7}  {text}", flush=True)

    @contextmanager
    def follow_log(self) -> Iterator[None]:
        """Send the log of the package here, and nowhere else."""
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
        """Return the last entries, or all of them, as a table."""
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", style="dim", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column()
        for at, level, text in self.entries[-last:]:
            style = STYLES.get(level, "")
            table.add_row(f"{at:.1f} s", Text(level, style), Text(text, style))
        return table


class Screen:
    """The live view: the two regions side by side, and the diary below them."""

    def __init__(self, console: Console, live: Live, diary: Diary) -> None:
        self._console = console
        self._live = live
        self._diary = diary
        self._bars: dict[str, deque[int]] = {}
        self._received: Counter[str] = Counter()

    async def paint(self, regions: list[Region]) -> None:
        """Draw a frame from time to time, until cancelled."""
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
        # On a narrow screen, an entry may take two lines.
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
    """Draw requests over time: half a bar is the usual number, a dot means none."""
    usual = MESSAGES_PER_SECOND * SAMPLE
    text = Text(no_wrap=True)
    for value in values:
        level = min(int(value / usual * len(BARS) / 2), len(BARS) - 1)
        text.append(BARS[level] if value else "·", "cyan" if value else "dim")
    return text


def headline() -> Text:
    return Text(
        f"An outage on real HTTP. Recovery timeout {POLICY.recovery_timeout:g} s (default: 60 s);"
        f" opens after {POLICY.failure_threshold} failed calls,"
        f" closes after {POLICY.success_threshold} successful probes."
    )


def numbers(regions: list[Region]) -> Table:
    table = Table(
        title="The phases in numbers", title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0)
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
sent       calls of send(); a message that was rejected or that failed is sent again
rejected   calls rejected by the circuit, in-process, without a request
failed     calls that failed after {ATTEMPTS} attempts, or fewer if the circuit opened meanwhile
requests   requests that reached the server
rejection  the median time that a rejection took
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
    """Run the demo, with a live screen if the output is a terminal."""
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
    except ExceptionGroup as group:  # a worker failed, which ended all the others
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
