"""A fleet without a server, threads or real time: circuits, and the store's twin."""

from benchmarks.twin import Twin
from resilience import BreakerPolicy
from resilience.circuit import Rejection, time_until
from resilience.circuit_events import Transition
from resilience.integrations.redis.protocol import RecordProtocol, parse_replies, parse_reply
from resilience.outcome import ANSWERED, IGNORED, SUCCESS, Outcome, Report
from resilience.shared_circuit import SharedCircuit

__all__ = ["ANSWERED", "FAILURE", "IGNORED", "KEY", "POLICY", "Process", "World"]

POLICY = BreakerPolicy(failure_threshold=2, recovery_timeout=60.0, success_threshold=3)
FAILURE = Report(Outcome.FAILURE, "TimeoutError")
KEY = "region"
# The store's clock has nothing to do with that of any process.
STORE_STARTS = 1_700_000_000_000
TIMEOUT = 0.5


class World:
    """Time, the store, and the processes that share one region."""

    def __init__(self, processes=2, *, quorum=1, policy=POLICY, lease=5.0):
        self.now = 1000.0
        self.announced = 0
        self.clock_ahead = 0.0  # seconds
        self.store = Twin(self.store_time, self._announce)
        self.processes = [Process(self, n, quorum, policy, lease) for n in range(processes)]
        self.settle()

    def store_time(self):
        return STORE_STARTS + int((self.now + self.clock_ahead) * 1000)

    def _announce(self, channel, message):
        self.announced += 1
        return len(self.processes)

    def pass_(self, seconds):
        self.now += seconds

    def settle(self):
        """Let all processes read and send until nothing is left to send."""
        for _ in range(10):
            sent = []
            for process in self.processes:
                process.read()
                sent += process.send()
            if not sent:
                return
        raise AssertionError("they never agree")

    def states(self):
        return [process.state for process in self.processes]

    def record(self):
        record, _ = self.store.load(KEY, self.store_time())
        return record

    def lose_data(self):
        """Restart the store empty."""
        self.store.hashes.clear()
        self.store.expiry.clear()

    def restart(self, clock_ahead):
        """Restart the store empty, on a machine whose clock is ahead by so many seconds."""
        self.lose_data()
        self.clock_ahead = clock_ahead


class Process:
    """One process: its circuit, and a synchronizer that works only when a test says so."""

    def __init__(self, world, number, quorum, policy, lease):
        self.world = world
        self.notified = 0
        self.events = []
        self.protocol = RecordProtocol("test", f"{number:016x}", f"host/{number}", lease, quorum)
        self.circuit = SharedCircuit(policy, world.now, lease=lease, notify=self._notify)

    def _notify(self):
        self.notified += 1

    @property
    def now(self):
        return self.world.now

    @property
    def state(self):
        return self.circuit.phase(self.now).value

    # Calls

    def call(self, report=SUCCESS):
        """Call and report immediately; returns how long to wait where the call is rejected."""
        ticket = self.begin()
        if isinstance(ticket, float | None):
            return ticket
        self.end(ticket, report)
        return "called"

    def begin(self):
        """Begin a call; returns its ticket, or how long to wait where it is rejected."""
        rejecting = self.circuit.reject(self.now)
        if rejecting is not None:
            return time_until(rejecting.until, self.now)
        ticket = self.circuit.acquire(self.now)
        self._deliver()
        return ticket.retry_after if isinstance(ticket, Rejection) else ticket

    def end(self, ticket, report=SUCCESS):
        self.circuit.record(ticket, report, self.now)
        self._deliver()

    def trip(self):
        for _ in range(self.circuit.policy.failure_threshold):
            self.call(FAILURE)

    def reset(self):
        self.circuit.reset(self.now)
        self._deliver()

    def force(self):
        self.circuit.force_open("forced open: maintenance", self.now)
        self._deliver()

    def _deliver(self):
        self.events += [event for event in self.circuit.events if isinstance(event, Transition)]
        self.circuit.events.clear()

    # The synchronizer

    def read(self, delay=0.0):
        """Read the record."""
        request = self.protocol.read([KEY])
        (reply,) = parse_replies(self.run(request), 1, delay)
        self.circuit.on_record(reply.view, self.now)
        self._deliver()

    def send(self):
        """Send all commands of the circuit; returns what they change."""
        sent = []
        for _ in range(10):
            command = self.circuit.next_command(self.now)
            if command is None:
                return sent
            sent.append(command.change)
            reply = parse_reply(self.run(self.request(command)), 0.0)
            self.circuit.on_reply(command, reply.view, self.now)
            self._deliver()
        raise AssertionError(f"it never ends: {sent}")

    def request(self, command, not_after=None):
        """Return what would be sent now."""
        if not_after is None:
            not_after = self.world.store_time() + int(TIMEOUT * 1000)
        timeout = self.circuit.policy.recovery_timeout
        return self.protocol.change(KEY, command, timeout, not_after)

    def run(self, request):
        """Let the store run a request."""
        return self.world.store.run(request.keys, request.arguments)

    def disconnect(self):
        self.circuit.on_disconnect()

    def start_again(self):
        """Be a process that has just started, and knows nothing of the others yet."""
        policy, lease = self.circuit.policy, self.protocol.lease
        self.circuit = SharedCircuit(policy, self.now, lease=lease, notify=self._notify)
