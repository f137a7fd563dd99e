"""SimulatedStore: the twin as one server on a network, which does one thing at a time."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from benchmarks.simulation.agenda import Agenda
from benchmarks.twin import Twin
from resilience.integrations.redis.protocol import Request

OnAnswer: TypeAlias = Callable[[object], object]
#: Takes the key of a record, and its new version.
Subscriber: TypeAlias = Callable[[str, int], object]

# The clock of the server is independent of all others.
_STARTED: Final = 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class Costs:
    """How long things take, in seconds.

    Args:
        network: The median way between a process and the store.
        spread: The standard deviation of the logarithm of what a network or a thread takes.
        wake: The median time until a thread runs that was woken.
        ping: The work of the server for a PING.
        read: Its work for a read, in addition to that for the records.
        record: Its work for each record that is read.
        change: Its work for a change.
        notification: Its work for each notification that it sends.
    """

    network: float = 0.00025
    spread: float = 0.5
    wake: float = 0.0001
    ping: float = 0.00001
    read: float = 0.000036
    record: float = 0.000004
    change: float = 0.00005
    notification: float = 0.000007


class SimulatedStore:
    """The store that the processes share.

    Args:
        agenda: Time.
        chance: The source of all that is random.
        costs: How long things take.
    """

    def __init__(self, agenda: Agenda, chance: random.Random, costs: Costs) -> None:
        self.costs = costs
        self._agenda, self._chance = agenda, chance
        self._free_at = 0.0
        self._twin = Twin(self.time, self._publish)
        self._published: list[tuple[str, int]] = []
        self.subscribers: list[Subscriber] = []
        self.commands: Counter[int] = Counter()  # by the second
        self.busy: defaultdict[int, float] = defaultdict(float)  # seconds of work, by the second

    def time(self) -> int:
        """Return the clock of the server, in milliseconds."""
        return _STARTED + int(max(self._free_at, self._agenda.now) * 1000)

    def ping(self) -> None:
        """Send a PING, which nobody waits for."""
        self._agenda.after(self._way(), partial(self._work, self.costs.ping))

    def run(self, request: Request, on_answer: OnAnswer) -> None:
        """Send a request."""
        self._agenda.after(self._way(), partial(self._run, request, on_answer))

    def lag(self) -> float:
        """Draw how long a thread takes to wake up."""
        return self.costs.wake * self._chance.lognormvariate(0, self.costs.spread)

    def _way(self) -> float:
        return self.costs.network * self._chance.lognormvariate(0, self.costs.spread)

    def _work(self, seconds: float) -> None:
        """Work on a command, after all that came before."""
        self._free_at = max(self._free_at, self._agenda.now)
        self.commands[int(self._free_at)] += 1
        self._add_work(seconds)

    def _add_work(self, seconds: float) -> None:
        self.busy[int(self._free_at)] += seconds
        self._free_at += seconds

    def _run(self, request: Request, on_answer: OnAnswer) -> None:
        is_read = request.arguments[0] in ("read", "poll")
        read = self.costs.read + len(request.keys) * self.costs.record
        self._work(read if is_read else self.costs.change)
        reply = self._twin.run(request.keys, request.arguments)
        self._agenda.at(self._free_at + self._way(), partial(on_answer, reply))
        for key, version in self._published:
            for notify in self.subscribers:
                self._add_work(self.costs.notification)
                self._agenda.at(self._free_at + self._way(), partial(notify, key, version))
        self._published.clear()

    def _publish(self, _channel: str, message: str) -> None:
        version, _, key = message.partition(" ")
        self._published.append((key, int(version)))
