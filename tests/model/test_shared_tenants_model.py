"""Random lives of a throttled tenant in a fleet: one probe at a time, and no wait without end."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilience.limits import LONGEST_WAIT, TenantProbe
from resilience.testing import FakeClock
from tests.support.tenant_store import LEASE, PROBE_TIMEOUT, TenantProcess, TenantStore, settle

PROCESSES = 3
WHO = st.integers(0, PROCESSES - 1)
WAITS = st.none() | st.sampled_from([0.05, 0.5, 3.0, 20.0])
SETTINGS = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # the machine may be
)


class Fleet(RuleBasedStateMachine):
    """What happens to any fleet."""

    def __init__(self):
        super().__init__()
        self.clock = FakeClock(1000.0)
        self.store = TenantStore(self.clock)
        self.fleet = [TenantProcess(self.store) for _ in range(PROCESSES)]
        self.probes = []

    def after_each(self):
        """Let messages travel."""

    def running(self):
        return [one for one in self.probes if one[0].table.is_probing(one[1])]

    @rule(who=WHO)
    def call(self, who):
        process = self.fleet[who]
        answer = process.start()
        if isinstance(answer, TenantProbe):
            self.probes.append((process, answer))
        elif answer is not None:
            assert 0 < answer <= LONGEST_WAIT + PROBE_TIMEOUT
        self.after_each()

    @rule(who=WHO, wait=WAITS)
    def refuse_a_call_under_way(self, who, wait):
        self.fleet[who].refuse(wait)
        self.after_each()

    @precondition(lambda self: self.probes)
    @rule(how=st.sampled_from(["succeed", "refuse", "give back"]), wait=WAITS)
    def end_a_probe(self, how, wait):
        process, probe = self.probes.pop(0)
        if how == "succeed":
            process.succeed(probe)
        elif how == "refuse":
            process.refuse(wait, probe)
        else:
            process.table.give_back(probe)
        self.after_each()

    @rule()
    def be_answered(self):
        settle(*(process for process in self.fleet if process.reaches_store))

    def teardown(self):
        """Nobody waits for ever, whatever the others have done before they were gone."""
        end = self.clock() + LONGEST_WAIT + 2 * PROBE_TIMEOUT + LEASE
        last = self.fleet[-1]
        while self.clock() < end:
            answer = last.start()
            if not isinstance(answer, float):
                return
            last.send()
            last.listen()
            self.clock.advance(max(answer, 0.01))
        raise AssertionError("it waits for ever")


class CalmFleet(Fleet):
    """Everything that is said arrives at once: there is one probe."""

    def after_each(self):
        settle(*self.fleet)

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 3.0]))
    def pass_time(self, seconds):
        # A holder renews its lease in time.
        while seconds > 0:
            self.clock.advance(min(seconds, 1.0))
            settle(*self.fleet)
            seconds -= 1.0

    @invariant()
    def there_is_one_probe(self):
        assert len(self.running()) <= 1

    @invariant()
    def all_agree_who_waits(self):
        waits = [round(process.table.wait_of("a", self.clock()), 3) for process in self.fleet]
        known = {wait for wait in waits if wait > 1.0}
        if not self.running():
            assert len(known) <= 1 or max(known) - min(known) <= 1.1


class WildFleet(Fleet):
    """Messages are late, processes are suspended, fork and lose the store."""

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 7.0, 70.0]))
    def pass_time(self, seconds):
        self.clock.advance(seconds)

    @rule(who=WHO)
    def send(self, who):
        self.fleet[who].send()

    @rule(who=WHO)
    def listen(self, who):
        self.fleet[who].listen()

    @rule(who=WHO)
    def lose_or_find_the_store(self, who):
        process = self.fleet[who]
        if process.reaches_store:
            process.lose_store()
        else:
            process.find_store()

    @rule(who=WHO)
    def fork(self, who):
        self.fleet[who].table.forked()
        self.fleet[who].find_store()

    @rule(seconds=st.sampled_from([1.0, 500.0]))
    def step_back(self, seconds):
        for process in self.fleet:
            process.table.expects_call("a", self.clock() - seconds)

    @invariant()
    def what_is_held_is_known(self):
        for process in self.fleet:
            assert process.table._held <= set(process.table._leases)
            assert len(process.table._unsent) <= 1


CalmFleet.TestCase.settings = WildFleet.TestCase.settings = SETTINGS
TestCalmFleet, TestWildFleet = CalmFleet.TestCase, WildFleet.TestCase
