"""Whatever happens to a fleet, in whatever order: when calm is back it agrees, and recovers."""

from hypothesis import given, settings
from hypothesis import strategies as st

from resilience.outcome import SUCCESS
from tests.support.fleet import ANSWERED, FAILURE, IGNORED, KEY, POLICY, World

PROCESSES = 3
who = st.integers(0, PROCESSES - 1)
reports = st.sampled_from((SUCCESS, SUCCESS, FAILURE, ANSWERED, IGNORED))
STEPS = st.one_of(
    st.tuples(st.just("call"), who, reports),
    st.tuples(st.just("trip"), who),
    st.tuples(st.just("begin"), who),
    st.tuples(st.just("end"), who, reports),
    st.tuples(st.just("expect_call"), who),
    st.tuples(st.just("synchronize"), who),
    st.tuples(st.just("synchronize"), who),
    st.tuples(st.just("settle")),
    st.tuples(st.just("send_without_reply"), who),
    st.tuples(st.just("deliver_late"), who),
    st.tuples(st.just("disconnect"), who),
    st.tuples(st.just("lose_data")),
    st.tuples(st.just("restart"), st.sampled_from((-3_600, 0, 3_600))),
    st.tuples(st.just("spoil"), st.sampled_from(("v", "s", "at", "n", "own", "votes"))),
    st.tuples(st.just("reset"), who),
    st.tuples(st.just("force"), who),
    st.tuples(st.just("pass_"), st.sampled_from((0.01, 0.25, 0.6, 1.0, 5.0, 30.0, 60.0))),
)


class Chaos:
    """Does one step after the other to a world."""

    def __init__(self, world):
        self.world = world
        self.begun = [[] for _ in world.processes]
        self.on_the_wire = [[] for _ in world.processes]

    def do(self, name, *what):
        own = getattr(self, name, None)
        if own is not None:
            own(*what)
        elif what and isinstance(what[0], int) and name not in ("pass_", "restart"):
            process = self.world.processes[what[0]]
            getattr(process, name)(*what[1:])
        else:
            getattr(self.world, name)(*what)

    def begin(self, number):
        ticket = self.world.processes[number].begin()
        if ticket is not None and not isinstance(ticket, float):
            self.begun[number].append(ticket)

    def end(self, number, report):
        if self.begun[number]:
            self.world.processes[number].end(self.begun[number].pop(0), report)

    def expect_call(self, number):
        self.world.processes[number].circuit.expects_call(self.world.now)

    def synchronize(self, number):
        self.world.processes[number].read()
        self.world.processes[number].send()

    def send_without_reply(self, number):
        process = self.world.processes[number]
        command = process.circuit.next_command(self.world.now)
        if command is not None:
            request = process.request(command)
            process.run(request)
            self.on_the_wire[number].append(request)
            process.disconnect()

    def deliver_late(self, number):
        for request in self.on_the_wire[number]:
            self.world.processes[number].run(request)

    def spoil(self, field):
        if KEY in self.world.store.hashes:
            self.world.store.hashes[KEY][field] = "7"

    def calm(self):
        """Let the calls that are under way end, and all processes synchronize."""
        for number, begun in enumerate(self.begun):
            while begun:
                self.end(number, IGNORED)
        self.world.pass_(1.0)
        self.world.settle()


def alone(process):
    """Whether it opened without the store, so long ago that it probes alone instead."""
    is_known = process.circuit._is_agreed and process.world.record() is not None
    return process.state == "HALF_OPEN" and not is_known


def check_events(world):
    for process in world.processes:
        for before, after in zip(process.events, process.events[1:], strict=False):
            assert before.new == after.old


@settings(deadline=None, max_examples=100)
@given(st.lists(STEPS, max_size=40), st.sampled_from((1, 2)), st.sampled_from((SUCCESS, ANSWERED)))
def test_when_calm_is_back_the_fleet_agrees_and_recovers(steps, quorum, answer):
    world = World(PROCESSES, quorum=quorum)
    chaos = Chaos(world)
    for step in steps:
        chaos.do(*step)
        record = world.record()
        for process in world.processes:
            circuit = process.circuit
            if record and circuit._lease.is_valid(world.now) and circuit.version == record.version:
                assert record.owner == process.protocol.client_id, "one holds the lease"
    chaos.calm()
    if quorum == 1:
        assert len({p.state == "CLOSED" for p in world.processes if not alone(p)}) <= 1
    if any(process.circuit.retry_after(world.now) is None for process in world.processes):
        world.processes[0].reset()
        world.settle()
    for _ in range(int((POLICY.recovery_timeout + 10) / 0.25)):
        if world.states() == ["CLOSED"] * PROCESSES:
            break
        probing = [p.call(answer) for p in world.processes if p.state != "CLOSED"]
        if quorum == 1:
            assert probing.count("called") <= 1, "one probe at a time"
        world.pass_(0.25)
        world.settle()
    assert world.states() == ["CLOSED"] * PROCESSES
    check_events(world)
