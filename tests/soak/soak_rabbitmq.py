"""The soak of message workers: every promise at full length, and the naive loop for comparison.

    make soak-rabbitmq

Plays the scenarios of rabbitmq_scenarios.py, which takes about ten minutes, writes the results to
docs/soak-rabbitmq.md, and fails if a promise was not kept.
"""

import asyncio
import logging
import os
import sys

import aio_pika

from benchmarks import report
from tests.soak import rabbitmq_scenarios as scenarios
from tests.soak.rabbitmq_scenarios import MOMENTS, RECOVERY
from tests.support import rabbitmq_broker

KINDS, LAYOUTS, PREFETCHES = ("quorum", "classic"), ("region", "shared"), (1, 10, 50)
NAMES = {
    "region": "`RegionConsumer`",
    "shared": "`SharedConsumer`",
    "literal": "`hold_when_open`",
    "naive": "naive loop",
}
MOST_CORE, MOST_A_SECOND = 0.02, 10

INTRODUCTION = f"""\
# Message workers in an outage

Each scenario has a real RabbitMQ, regions on real HTTP, and one worker in its own process. A
region that is down answers 503 immediately; one that is up answers 200 after 20 ms. The
circuit opens after ten failures in a row, and its recovery timeout is {RECOVERY:g} s. Quorum
queues have a delivery limit of {scenarios.LIMIT}, beyond which they dead-letter a message.
Deliveries are counted by a proxy between the worker and the broker, requests by the regions,
and processor time by the kernel.

The **naive loop** calls `nack(requeue=True)` immediately, whatever the call raises.

*Most deliveries* is the number of deliveries of the message that was delivered most often.
*Share of a core* is the processor time of the worker while it waited, from the trip until the
region was back."""

READING = """\
## How to read it

- A message that is **delivered twice** is not an error: delivery is at least once. This
  happens when a worker dies between the call and the ack.
- **Requests after the trip** are those between the trip and the return of the region: one for each
  probe, and those of calls that were running when the circuit opened.
- A shared queue costs one more delivery for each message that waits: one from the queue, and one
  from the wait queue.
- On a quorum queue the naive loop loses messages, sooner if there are fewer of them: each
  round costs each message a delivery. On a classic queue, which has no limit, it is an endless
  redelivery loop.
- While the circuit is OPEN, `RegionConsumer` and `SharedConsumer` consume nothing: the
  messages wait in the broker. `hold_when_open` holds `prefetch` unacked messages."""


class Campaign:
    """Plays, prints and judges.

    Args:
        url: The broker.
    """

    def __init__(self, url):
        self.url = url
        self.missed = []

    def judge(self, what, *, kept):
        """Note a promise that was not kept."""
        if not kept:
            self.missed.append(what)
        return "" if kept else " **(missed)**"

    def whole(self, what, seen, *, left=0):
        """Return the cells of a row that describe what happened to the messages."""
        kept = (seen.lost, seen.dead_lettered, seen.left) == (0, 0, left)
        kept = kept and seen.delivered == seen.messages - left
        mark = self.judge(f"{what}: every message delivered", kept=kept)
        return f"{seen.delivered} of {seen.messages}{mark}", f"{seen.lost}", f"{seen.dead_lettered}"

    def bound(self, what, value, most, text="{}"):
        """Return a figure that must not be above a limit."""
        figure, limit = text.format(value), text.format(most)
        return figure + self.judge(f"{what}: {figure}, at most {limit}", kept=value <= most)

    async def at_once(self, play, cases):
        """Play several scenarios at the same time: they wait most of the time."""
        results = await asyncio.gather(*(play(self.url, **case) for case in cases))
        for case, result in zip(cases, results, strict=True):
            print(f"{play.__name__} {case}: {result}", flush=True)
        return results

    # The chapters

    async def outages(self):
        cases = [
            (4, {"prefetch": 10}),
            (4, {"prefetch": 50}),
            (4, {"prefetch": 10, "kind": "classic"}),
            (6, {"prefetch": 1, "down": 30.0}),
            (5, {"prefetch": 50, "down": 30.0, "layout": "literal"}),
        ]
        rows = []
        results = await self.at_once(scenarios.outage, [how for _, how in cases])
        for (most, how), seen in zip(cases, results, strict=True):
            layout, kind = how.get("layout", "region"), how.get("kind", "quorum")
            down, prefetch = how.get("down", 10.0), how["prefetch"]
            name = f"{layout}, {kind}, prefetch {prefetch}"
            after = self.bound(name, seen.after_the_trip, seen.probes + prefetch - 1)
            core = self.bound(name, seen.core, MOST_CORE, "{:.1%}")
            rows.append((
                NAMES[layout], kind, str(prefetch), f"{down:g} s", *self.whole(name, seen),
                self.bound(name, seen.most_deliveries, most), f"{seen.deliveries:,}",
                f"{after}, {seen.probes} probes", core,
            ))  # fmt: skip
        for how in ({"prefetch": 10}, {"prefetch": 50}, {"prefetch": 10, "kind": "classic"}):
            (seen,) = await self.at_once(scenarios.naive, [how])
            rows.append((
                NAMES["naive"], how.get("kind", "quorum"), str(how["prefetch"]), "10 s",
                f"{seen.delivered} of {seen.messages}", str(seen.lost), str(seen.dead_lettered),
                f"{seen.most_deliveries:,}", f"{seen.deliveries:,} in {seen.busy:.1f} s", "-",
                f"{seen.core:.0%}",
            ))  # fmt: skip
        head = (
            "", "queue", "prefetch", "down for", "delivered", "lost", "dead-lettered",
            "most deliveries", "deliveries", "requests after the trip", "share of a core",
        )  # fmt: skip
        return "## One region, one queue", report.table(head, rows)

    async def poison(self):
        rows = []
        cases = [{"kind": kind, "down": 10.0} for kind in KINDS]
        cases += [{"layout": layout, "poisoned": 15} for layout in LAYOUTS]
        for how, seen in zip(cases, await self.at_once(scenarios.poison, cases), strict=True):
            layout, kind, many = (
                how.get("layout", "region"), how.get("kind", "quorum"), how.get("poisoned", 1)
            )  # fmt: skip
            name = f"{many} poison, {layout}, {kind}"
            closed = f"{seen.closed_after:.2f} s"
            if many == 1:
                closed = self.bound(name, seen.closed_after, 3 * RECOVERY, "{:.2f} s")
            whole = self.whole(name, seen, left=many)
            rows.append((NAMES[layout], kind, str(many), *whole, closed))
        head = ("", "queue", "poison messages", "delivered", "lost", "dead-lettered",
                "first closed after")  # fmt: skip
        text = """\
## Poison messages

The region always answers 500 to the first message in the queue, or to the first 15, which is more
than `max_failed_held`. These messages stay in their queue. The time until the circuit closed is
counted from the return of the region."""
        return text, report.table(head, rows)

    async def fairness(self):
        rows = [
            await self._fairness(kind=kind, prefetch=prefetch, circuit=circuit)
            for kind in KINDS
            for prefetch in PREFETCHES
            for circuit in ("OPEN", "CLOSED")
        ]
        for kind in KINDS:
            (seen,) = await self.at_once(scenarios.naive_shared, [{"kind": kind}])
            rows.append((
                f"naive loop, {kind}", "10", "OPEN", "-", f"{seen.in_time} of 50 in 10 s",
                str(seen.lost), str(seen.dead_lettered), f"{seen.most_deliveries:,}",
            ))  # fmt: skip
        head = (
            "queue", "prefetch", "circuit at the start", "undisturbed", "healthy 50 after", "lost",
            "dead-lettered", "most deliveries",
        )  # fmt: skip
        text = """\
## Two regions, one queue

50 messages of a region that is down are in front of 50 messages of a healthy region. The time
of the healthy ones is counted from the first delivery of all to the last answer. It must be at
most twice the time that they take alone, plus 0.25 s. Both times are medians of three runs."""
        return text, report.table(head, rows)

    async def _fairness(self, **how):
        alone, seconds, reports = await scenarios.fairness(self.url, **how)
        name = f"two regions, {', '.join(map(str, how.values()))}: the healthy ones"
        bound = 2 * alone + 0.25
        print(f"{name}: {seconds:.3f} s, undisturbed {alone:.3f} s, {reports}", flush=True)
        for seen in reports:
            self.whole(name, seen)
        return (
            how["kind"], str(how["prefetch"]), how["circuit"], f"{alone:.2f} s",
            self.bound(name, seconds, bound, "{:.2f} s"), str(sum(seen.lost for seen in reports)),
            str(sum(seen.dead_lettered for seen in reports)),
            self.bound(name, max(seen.most_deliveries for seen in reports), 5),
        )  # fmt: skip

    async def long_outages(self):
        rows = []
        cases = [
            {"kind": kind, "prefetch": 10, "circuit": "CLOSED", "down": down}
            for kind in KINDS
            for down in (10.0, 30.0, 60.0)
        ]
        for how, seen in zip(cases, await self.at_once(scenarios.shared, cases), strict=True):
            name = f"shared, {how['kind']}, down for {how['down']:g} s"
            most = self.bound(name, seen.most_deliveries, 5)
            rows.append((how["kind"], f"{how['down']:g} s", *self.whole(name, seen), most))
        head = ("queue", "down for", "delivered", "lost", "dead-lettered", "most deliveries")
        return "The same queue in longer outages:", report.table(head, rows)

    async def waiting(self):
        rows = []
        for kind in KINDS:
            (seen,) = await self.at_once(scenarios.waiting, [{"kind": kind}])
            name = f"waiting, {kind}"
            rows.append((
                kind, str(seen.moved), *self.whole(name, seen),
                self.bound(name, seen.deliveries_a_second, MOST_A_SECOND),
                self.bound(name, seen.core, MOST_CORE, "{:.1%}"),
            ))  # fmt: skip
        head = ("queue", "moved", "delivered", "lost", "dead-lettered", "deliveries per second",
                "share of a core")  # fmt: skip
        text = """\
## 2,000 messages in a wait queue

They wait for their region, and nothing else happens."""
        return text, report.table(head, rows)

    async def kills(self):
        cases = [{"layout": "region", "moment": m} for m in MOMENTS if m != "moving"]
        cases += [{"layout": "shared", "moment": m} for m in MOMENTS if m != "first requests"]
        results = []
        for at in (0, 5):
            results += await self.at_once(scenarios.killed, cases[at : at + 5])
        rows = [
            self._kill(how["layout"], how["moment"], 1, 10, seen)
            for how, seen in zip(cases, results, strict=True)
        ]
        again = [{"prefetch": prefetch} for prefetch in (1, 50)]
        results = await self.at_once(scenarios.killed_again_and_again, again)
        rows += [
            self._kill("region", f"ten times in 12 s, prefetch {how['prefetch']}", 10,
                       how["prefetch"], seen)
            for how, seen in zip(again, results, strict=True)
        ]  # fmt: skip
        head = ("", "killed", "delivered", "lost", "dead-lettered", "delivered twice",
                "most deliveries")  # fmt: skip
        text = """\
## The worker is killed

It is killed by SIGKILL: once in each of ten runs (prefetch 10), and ten times in one outage."""
        return text, report.table(head, rows)

    def _kill(self, layout, moment, kills, prefetch, seen):
        name = f"killed, {layout}, {moment}"
        twice = self.bound(name, seen.duplicates, kills * prefetch)
        most = str(seen.most_deliveries)
        return (NAMES[layout], moment, *self.whole(name, seen), twice, most)

    async def broker_killed(self):
        cases = [{"layout": layout, "kind": kind} for layout in LAYOUTS for kind in KINDS]
        broker = rabbitmq_broker.started_broker()
        try:
            results = await scenarios.broker_killed_under(broker, cases)
        finally:
            broker.close()
        rows = []
        for how, seen in zip(cases, results, strict=True):
            print(f"broker killed {how}: {seen}", flush=True)
            name = f"broker killed, {how['layout']}, {how['kind']}"
            rows.append((
                NAMES[how["layout"]], how["kind"], *self.whole(name, seen), str(seen.duplicates),
                str(seen.most_deliveries),
            ))  # fmt: skip
        head = ("", "queue", "delivered", "lost", "dead-lettered", "delivered twice",
                "most deliveries")  # fmt: skip
        text = """\
## The broker is killed

It is killed by SIGKILL during the outage, and started again. The workers keep running."""
        return text, report.table(head, rows)

    async def growth(self):
        cases = [{"layout": layout, "down": 10.0} for layout in LAYOUTS]
        rows = []
        for how, seen in zip(cases, await self.at_once(scenarios.growth, cases), strict=True):
            name = f"growth, {how['layout']}"
            rows.append((
                NAMES[how["layout"]], *self.whole(name, seen),
                self.bound(name, seen.too_many, 0), str(seen.most_at_once), str(seen.trips),
            ))  # fmt: skip
        head = ("", "delivered", "lost", "dead-lettered", "requests beyond the step",
                "most at the same time", "trips again")  # fmt: skip
        text = """\
## After the recovery

The region is down for 10 s, the prefetch is 50, and 50 messages arrive per second. After the
circuit has closed, the worker may make one request at a time, then two, then four, and so on:
the slow start."""
        return text, report.table(head, rows)


async def main(url):
    """Play all chapters, and write the page."""
    campaign = Campaign(url)
    chapters = (
        campaign.outages, campaign.poison, campaign.fairness, campaign.long_outages,
        campaign.waiting, campaign.kills, campaign.growth, campaign.broker_killed,
    )  # fmt: skip
    if not rabbitmq_broker.is_installed():
        chapters = chapters[:-1]  # a broker that others use is not killed
    load = f"Load average of the machine before it began: {os.getloadavg()[0]:.1f}."
    pages = [part for chapter in chapters for part in await chapter()]
    measured = report.origin("make soak-rabbitmq", "aio-pika").removesuffix(".")
    where = f"{measured}, {await version_of(url)}. {load}"
    verdict = "Every promise was kept."
    if campaign.missed:
        verdict = "\n".join(["Not kept:", "", *(f"- {what}" for what in campaign.missed)])
    report.write("soak-rabbitmq.md", INTRODUCTION, where, verdict, *pages, READING)
    return 1 if campaign.missed else 0


async def version_of(url):
    async with await aio_pika.connect(url) as connection:
        properties = connection.transport.connection.server_properties
    return f"{properties['product']} {properties['version']}"


if __name__ == "__main__":
    logging.getLogger("aio_pika").setLevel(logging.CRITICAL)
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    if not rabbitmq_broker.is_there():
        sys.exit(f"soak: there is no RabbitMQ ({rabbitmq_broker.HOW_TO_GET_IT})")
    shared_broker = rabbitmq_broker.open_broker()
    try:
        code = asyncio.run(main(shared_broker.url))
    finally:
        shared_broker.close()
    sys.exit(code)
