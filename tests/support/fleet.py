"""A fleet without a server, threads or real time: circuits, and the store's twin."""

import itertools

from resilience.integrations.redis.records import Records, parse, parse_many

from benchmarks.twin import Twin
from resilience import BreakerPolicy
from resilience.circuit import Closed, Probe
from resilience.outcome import SUCCESS, Outcome
from resilience.shared_circuit import Fleet, SharedCircuit

POLICY = BreakerPolicy(failure_threshold=2, recovery_timeout=60.0, success_threshold=3)
FAILURE = (Outcome.FAILURE, "TimeoutError")
IGNORED = (Outcome.IGNORED, "")
KEY = "region"
# The store's clock has nothing to do with anybody's.
STORE_STARTS = 1_700_000_000_000
TIMEOUT = 0.5


class World:
    """Time, the store, and the processes that share one region."""

    def __init__(self, processes=2, *, quorum=1, policy=POLICY, lease=5.0):
        self.now = 1000.0
        self.hints = 0
        self.store = Twin(self.store_time, self._hint)
        self.processes = [Process(self, n, quorum, policy, lease) for n in range(processes)]
        self.settle()

    def store_time(self):
        return STORE_STARTS + int(self.now * 1000)

    def _hint(self, channel, message):
        self.hints += 1

    def pass_(self, seconds):
        self.now += seconds

    def settle(self):
        """Let all lanes say and hear what there is."""
        for _ in range(10):
            said = []
            for process in self.processes:
                process.hear()
                said += process.say()
            if not said:
                return
        raise AssertionError("they never agree")

    def states(self):
        return [process.state for process in self.processes]

    def record(self):
        record, _ = self.store.load(KEY, self.store_time())
        return record

    def lose(self):
        """Restart the store empty."""
        self.store.hashes.clear()
        self.store.expiry.clear()


class Process:
    """One process: its circuit, and a lane that talks only when it is told to."""

    def __init__(self, world, number, quorum, policy, lease):
        self.world = world
        self.rings = 0
        self.events = []
        self.records = Records("test", f"{number:016x}", f"host/{number}", lease, quorum)
        self.circuit = SharedCircuit(policy, Closed(world.now), fleet=Fleet(lease), ring=self._ring)

    def _ring(self):
        self.rings += 1

    @property
    def now(self):
        return self.world.now

    @property
    def state(self):
        return self.circuit.phase(self.now).value

    # Calls

    def call(self, report=SUCCESS):
        """Call and report at once; gives how long to wait where the call is rejected."""
        ticket = self.begin()
        if not isinstance(ticket, float | None):
            self.end(ticket, report)
            return "called"
        return ticket

    def begin(self):
        ticket = self.circuit.acquire(self.now)
        if isinstance(ticket, tuple):
            return ticket[2]
        if isinstance(ticket, Probe):
            self._note(ticket.opened)
        return ticket

    def end(self, ticket, report=SUCCESS):
        self._note(self.circuit.record(ticket, report, self.now))

    def trip(self):
        for _ in range(self.circuit.policy.failure_threshold):
            self.call(FAILURE)

    def reset(self):
        self._note(self.circuit.reset(self.now))

    def force(self):
        self._note(self.circuit.force_open("forced open: maintenance", self.now))

    def _note(self, change):
        if change is not None:
            self.events.append(change)

    # The lane

    def hear(self, delay=0.0):
        """Read the record."""
        keys, arguments = self.records.read([KEY])
        (answer,) = parse_many(self.world.store.run(keys, arguments), 1, delay)
        self._note(self.circuit.hear(answer.view, self.now))

    def say(self):
        """Say all that the circuit wishes; gives the names of the changes."""
        said = []
        for _ in itertools.takewhile(lambda n: n < 10, itertools.count()):
            wish = self.circuit.wish(self.now)
            if wish is None:
                return said
            said.append(wish.change)
            answer = parse(self.world.store.run(*self.request(wish)), 0.0)
            self._note(self.circuit.answer(wish, answer.view, self.now))
        raise AssertionError(f"it never ends: {said}")

    def request(self, wish, not_after=None):
        """What would be sent now."""
        late = self.world.store_time() + int(TIMEOUT * 1000) if not_after is None else not_after
        return self.records.change(KEY, wish, self.circuit.policy.recovery_timeout, late)

    def lose_store(self):
        self.circuit.lost(self.now)
