"""Outages, kills and restarts at full length on one RabbitMQ, and the naive loop for comparison.

    python -m tests.soak.rabbitmq_campaign [CHAPTER...]

Plays the scenarios of rabbitmq_scenarios.py and prints a JSON object: the rows of a table for each
chapter, and the promises that were not kept. The soak writes them into its page.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys

import aio_pika

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


class Campaign:
    """Plays, prints and judges.

    Args:
        url: The broker.
    """

    def __init__(self, url):
        self.url = url
        self.missed = []
        self.messages = self.lost = 0

    def judge(self, what, *, kept):
        """Note a promise that was not kept."""
        if not kept:
            self.missed.append(what)
        return "" if kept else " **(missed)**"

    def whole(self, what, seen, *, left=0):
        """Return the cells of a row that describe what happened to the messages."""
        self.messages, self.lost = self.messages + seen.messages, self.lost + seen.lost
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
            print(f"{play.__name__} {case}: {result}", file=sys.stderr, flush=True)
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
        cases = [{"prefetch": 10}, {"prefetch": 50}, {"prefetch": 10, "kind": "classic"}]
        for how in (*cases, {"prefetch": 10, "limit": None}):
            (seen,) = await self.at_once(scenarios.naive, [how])
            queue = "quorum, no limit set" if "limit" in how else how.get("kind", "quorum")
            rows.append((
                NAMES["naive"], queue, str(how["prefetch"]), "10 s",
                f"{seen.delivered} of {seen.messages}", str(seen.lost), str(seen.dead_lettered),
                f"{seen.most_deliveries:,}", f"{seen.deliveries:,} in {seen.busy:.1f} s", "-",
                f"{seen.core:.0%}",
            ))  # fmt: skip
        head = (
            "", "queue", "prefetch", "down for", "delivered", "lost", "dead-lettered",
            "most deliveries", "deliveries", "requests after the trip", "share of a core",
        )  # fmt: skip
        return head, rows

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
        return head, rows

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
        return head, rows

    async def _fairness(self, **how):
        alone, seconds, reports = await scenarios.fairness(self.url, **how)
        played = f"{how['kind']} queue, prefetch {how['prefetch']}, circuit {how['circuit']}"
        name = f"two regions, {played} at the start: the healthy messages"
        bound = 2 * alone + 0.25
        print(f"{name}: {seconds:.3f} s, undisturbed {alone:.3f} s", file=sys.stderr, flush=True)
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
        return head, rows

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
        return head, rows

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
        return head, rows

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
            print(f"broker killed {how}: {seen}", file=sys.stderr, flush=True)
            name = f"broker killed, {how['layout']}, {how['kind']}"
            rows.append((
                NAMES[how["layout"]], how["kind"], *self.whole(name, seen), str(seen.duplicates),
                str(seen.most_deliveries),
            ))  # fmt: skip
        head = ("", "queue", "delivered", "lost", "dead-lettered", "delivered twice",
                "most deliveries")  # fmt: skip
        return head, rows

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
        return head, rows


# What each chapter is played by, and how many columns of its table say what was played.
CHAPTERS = {
    "outages": (Campaign.outages, 4),
    "poison": (Campaign.poison, 3),
    "fairness": (Campaign.fairness, 3),
    "long outages": (Campaign.long_outages, 2),
    "waiting": (Campaign.waiting, 1),
    "kills": (Campaign.kills, 2),
    "growth": (Campaign.growth, 1),
    "broker killed": (Campaign.broker_killed, 2),
}


async def run(url, names):
    """Play some chapters; return what the page needs of each by its name."""
    results = {}
    for name in names:
        play, labels = CHAPTERS[name]
        campaign, load = Campaign(url), os.getloadavg()[0]
        head, rows = await play(campaign)
        results[name] = {
            "head": head,
            "labels": labels,
            "rows": rows,
            "missed": campaign.missed,
            "messages": campaign.messages,
            "lost": campaign.lost,
            "load": load,
        }
    return {"version": await version_of(url), "chapters": results}


async def version_of(url):
    async with await aio_pika.connect(url) as connection:
        return connection.transport.connection.server_properties["version"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("chapters", nargs="*", choices=[[], *CHAPTERS])
    names = parser.parse_args().chapters or list(CHAPTERS)
    if not rabbitmq_broker.is_installed():
        names.remove("broker killed")  # A broker that others use is not killed.
    for library in ("aio_pika", "aiormq"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    broker = rabbitmq_broker.open_broker()
    try:
        results = asyncio.run(run(broker.url, names))
    finally:
        broker.close()
    print(json.dumps(results))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # It ends its broker.
    main()
