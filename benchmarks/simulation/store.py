"""SimulatedStore: the twin, as one server on a network that does one thing at a time."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from benchmarks.simulation.agenda import Agenda
from benchmarks.twin import Twin

Answered: TypeAlias = Callable[[Any], object]

# The server's clock has nothing to do with anybody's.
_STARTED: Final = 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class Costs:
    """How long things take, in seconds.

    Args:
        network: One way between a process and the store, the median.
        spread: The standard deviation of the logarithm of what a network or a thread takes.
        wake: Until a thread runs that was woken, the median.
        ping: What the server works for a PING and its like.
        read: For a read, on top of that what each record costs.
        record: For each record that is read.
        change: For a change.
        hint: For each hint that it sends.
    """

    network: float = 0.00025
    spread: float = 0.5
    wake: float = 0.0001
    ping: float = 0.00001
    read: float = 0.000036
    record: float = 0.000004
    change: float = 0.00005
    hint: float = 0.000007


class SimulatedStore:
    """What the processes share.

    Args:
        agenda: Time.
        chance: Where all that is random comes from.
        costs: How long things take.
    """

    def __init__(self, agenda: Agenda, chance: random.Random, costs: Costs) -> None:
        self.costs = costs
        self._agenda, self._chance = agenda, chance
        self._free_at = 0.0
        self._twin = Twin(lambda: _STARTED + int(self._free_at * 1000), self._publish)
        self._told: list[tuple[str, int]] = []
        self.subscribers: list[Callable[[tuple[str, int]], object]] = []
        self.commands: Counter[int] = Counter()  # second -> how many
        self.busy: dict[int, float] = defaultdict(float)  # second -> seconds of work begun in it
        self.lost = 0  # so often somebody had no answer in time

    def ping(self) -> None:
        """Ask for nothing."""
        self._agenda.after(self._way(), partial(self._work, self.costs.ping))

    def ask(self, keys: list[str], arguments: list[str], answered: Answered) -> None:
        """Ask for an answer."""
        self._agenda.after(self._way(), partial(self._run, keys, arguments, answered))

    def lag(self) -> float:
        """Draw how long a woken thread takes until it runs."""
        return self.costs.wake * self._chance.lognormvariate(0, self.costs.spread)

    def _way(self) -> float:
        return self.costs.network * self._chance.lognormvariate(0, self.costs.spread)

    def _work(self, seconds: float) -> None:
        """Stand in line, and work."""
        self._free_at = max(self._free_at, self._agenda.now)
        self.commands[int(self._free_at)] += 1
        self.busy[int(self._free_at)] += seconds
        self._free_at += seconds

    def _run(self, keys: list[str], arguments: list[str], answered: Answered) -> None:
        costs = self.costs
        looks = arguments[0] in ("read", "poll")
        self._work(costs.read + len(keys) * costs.record if looks else costs.change)
        reply = self._twin.run(keys, arguments)
        self._agenda.at(self._free_at + self._way(), partial(answered, reply))
        for hint in self._told:
            for hear in self.subscribers:
                self.busy[int(self._free_at)] += costs.hint
                self._free_at += costs.hint
                self._agenda.at(self._free_at + self._way(), partial(hear, hint))
        self._told.clear()

    def _publish(self, _channel: str, message: str) -> None:
        version, _, key = message.partition(" ")
        self._told.append((key, int(version)))
