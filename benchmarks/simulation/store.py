"""SimulatedStore: the twin as one server on a network, which does one thing at a time."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from benchmarks.simulation.agenda import Action, Agenda
from benchmarks.twin import Twin
from resilience.integrations.redis.notification import Notification, newest
from resilience.integrations.redis.protocol import Request

OnAnswer: TypeAlias = Callable[[object], object]
#: Takes the newest notification for each key.
Subscriber: TypeAlias = Callable[[Mapping[str, Notification]], object]

# The clock of the server is independent of all others.
_STARTED: Final = 1_700_000_000_000
# A process makes two connections, one after the other, and greets on each of them.
_WAYS_TO_CONNECT: Final = 12


@dataclass(frozen=True, slots=True)
class Costs:
    """How long things take, in seconds.

    Args:
        network: The median way between a process and the store.
        spread: The standard deviation of the logarithm of what a network or a thread takes.
        wake: The median time until a thread runs that was woken.
        ping: The work of the server for a PING.
        connect: Its work for the two connections of a process.
        read: Its work for a read, in addition to that for the records.
        record: Its work for each record that is read.
        found: Its additional work for each of these that exists.
        change: Its work for a change.
        notification: Its work for each notification of each subscriber.
        write: Its work for sending a subscriber all the notifications that have come meanwhile.
    """

    network: float = 0.00025
    spread: float = 0.5
    wake: float = 0.0001
    ping: float = 0.00001
    connect: float = 0.00019
    read: float = 0.00002
    record: float = 0.000005
    found: float = 0.000025
    change: float = 0.00009
    notification: float = 0.000001
    write: float = 0.0000065


class SimulatedStore:
    """The store that the processes share.

    Like the real one it takes all commands that have arrived, does one after the other, and then
    sends each client whatever there is for it.

    Args:
        agenda: Time.
        chance: The source of all that is random.
        costs: How long things take.
    """

    def __init__(self, agenda: Agenda, chance: random.Random, costs: Costs) -> None:
        self.costs = costs
        self._agenda, self._chance = agenda, chance
        self._twin = Twin(self.time, self._publish)
        self.subscribers: dict[str, Subscriber] = {}
        self.commands: Counter[int] = Counter()  # by the second
        self.busy: defaultdict[int, float] = defaultdict(float)  # seconds of work, by the second
        self.is_up = True
        self._arrived: list[Action] = []
        self._works = False
        self._free_at = 0.0
        self._published: list[bytes] = []
        self._starts = 0  # what was sent to it before it was started again is lost

    def time(self) -> int:
        """Return the clock of the server, in milliseconds."""
        return _STARTED + int(max(self._free_at, self._agenda.now) * 1000)

    def stop(self) -> None:
        """End, and forget everything; the processes notice it by themselves."""
        self.is_up = False
        self._twin.hashes.clear()
        self._twin.expiry.clear()
        self.subscribers.clear()
        self._arrived.clear()
        self._published.clear()

    def start(self) -> None:
        """Start again, empty."""
        self.is_up, self._works = True, False
        self._starts += 1

    # What processes send

    def connect(self, client_id: str, subscriber: Subscriber, on_answer: OnAnswer) -> None:
        """Make the connections of a process, and subscribe.

        Args:
            client_id: Identifies the process.
            subscriber: Called with each notification.
            on_answer: Called with None if the store is not there.
        """
        self.subscribers.pop(client_id, None)
        self._send(partial(self._connect, client_id, subscriber, on_answer), _WAYS_TO_CONNECT)
        if not self.is_up:  # the connection is refused
            self._agenda.after(2 * self._way(), partial(on_answer, None))

    def ping(self) -> None:
        """Send a PING, which nobody waits for."""
        self._send(partial(self._work, self.costs.ping))

    def run(self, request: Request, on_answer: OnAnswer, others: int = 0) -> None:
        """Send a request.

        Args:
            request: The request.
            on_answer: Called with the answer.
            others: How many records it reads in addition, which do not exist.
        """
        self._send(partial(self._run, request, on_answer, others))

    def lag(self) -> float:
        """Draw how long a thread takes to wake up."""
        return self.costs.wake * self._chance.lognormvariate(0, self.costs.spread)

    def _way(self) -> float:
        return self.costs.network * self._chance.lognormvariate(0, self.costs.spread)

    def _send(self, command: Action, ways: int = 1) -> None:
        self._agenda.after(ways * self._way(), partial(self._arrive, self._starts, command))

    # The server

    def _arrive(self, starts: int, command: Action) -> None:
        if not self.is_up or starts != self._starts:
            return
        self._arrived.append(command)
        if not self._works:
            self._take_turn(starts)

    def _take_turn(self, starts: int) -> None:
        """Do all that has arrived, and then send the notifications."""
        if starts != self._starts or not self.is_up:
            return
        self._works = bool(self._arrived)
        if not self._works:
            return
        self._free_at = self._agenda.now
        arrived, self._arrived = self._arrived, []
        for command in arrived:
            command()
        if self._published:
            self._notify(self._published)
            self._published = []
        self._agenda.at(self._free_at, partial(self._take_turn, starts))

    def _work(self, seconds: float) -> None:
        """Work on a command."""
        self.commands[int(self._free_at)] += 1
        self._add_work(seconds)

    def _add_work(self, seconds: float) -> None:
        self.busy[int(self._free_at)] += seconds
        self._free_at += seconds

    def _answer(self, on_answer: OnAnswer, answer: object) -> None:
        self._agenda.at(self._free_at + self._way(), partial(on_answer, answer))

    def _connect(self, client_id: str, subscriber: Subscriber, on_answer: OnAnswer) -> None:
        self._work(self.costs.connect)
        self.subscribers[client_id] = subscriber
        self._answer(on_answer, "OK")

    def _run(self, request: Request, on_answer: OnAnswer, others: int) -> None:
        costs = self.costs
        if request.arguments[0] in ("read", "poll"):
            found = sum(key in self._twin.hashes for key in request.keys)
            self._work(
                costs.read + (len(request.keys) + others) * costs.record + found * costs.found
            )
        else:
            self._work(costs.change)
        self._answer(on_answer, self._twin.run(request.keys, request.arguments))

    def _publish(self, _channel: str, message: str) -> int:
        self._published.append(message.encode())
        return len(self.subscribers)

    def _notify(self, published: list[bytes]) -> None:
        announced = newest(published)
        work = self.costs.write + len(published) * self.costs.notification
        for subscriber in self.subscribers.values():
            self._add_work(work)
            self._agenda.at(self._free_at + self._way(), partial(subscriber, announced))
