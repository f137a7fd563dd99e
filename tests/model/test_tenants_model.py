"""Random lives of the tenants of a region: one probe, no wait without end, a bounded table."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from resilience.limits import LONGEST_WAIT, LimitReading, TenantProbe, TenantTable

LEASE = 60.0
MAX_TENANTS = 4
TENANTS = st.sampled_from("abcdef")
WAITS = st.none() | st.sampled_from([0.0, 0.5, 7.0, 60.0, 1e9])


class Tenants(RuleBasedStateMachine):
    probes = Bundle("probes")

    def __init__(self):
        super().__init__()
        self.table = TenantTable(MAX_TENANTS)
        self.now = 1000.0

    @rule(seconds=st.sampled_from([0.125, 1.0, 7.0, 60.0, 3600.0]))
    def pass_time(self, seconds):
        self.now += seconds

    @rule(seconds=st.sampled_from([1.0, 500.0]))
    def step_back(self, seconds):
        self.now -= seconds

    @rule(tenant=TENANTS, target=probes)
    def start(self, tenant):
        throttle = self.table.throttles.get(tenant)
        under_way = throttle.probe if throttle is not None else None
        leave = self.table.start(tenant, LEASE, self.now)
        if isinstance(leave, float):
            assert 0 < leave <= LONGEST_WAIT + LEASE
        if isinstance(leave, TenantProbe):
            # There is no other one, unless its lease has run out.
            assert under_way is None or under_way.until <= self.now
            assert self.table.is_probing(leave)
        if leave is None:
            assert tenant not in self.table.throttles
        return leave if isinstance(leave, TenantProbe) else None

    @rule(probe=consumes(probes))
    def succeed(self, probe):
        if probe is not None:
            was_probing = self.table.is_probing(probe)
            ended = self.table.succeed(probe, self.now)
            assert was_probing or not ended
            assert not self.table.is_probing(probe)

    @rule(probe=consumes(probes))
    def give_back(self, probe):
        if probe is not None:
            self.table.give_back(probe)
            assert not self.table.is_probing(probe)

    @rule(probe=consumes(probes), wait=WAITS)
    def refuse_probe(self, probe, wait):
        if probe is not None:
            self.table.refuse(probe.tenant, wait, self.now, probe)
            assert not self.table.is_probing(probe)
            assert self.table.start(probe.tenant, LEASE, self.now) is not None

    @rule(tenant=TENANTS, wait=WAITS)
    def refuse(self, tenant, wait):
        before = self.table.wait_of(tenant, self.now)
        self.table.refuse(tenant, wait, self.now)
        after = self.table.wait_of(tenant, self.now)
        assert after >= before
        assert after >= min(wait or 0.0, LONGEST_WAIT)

    @rule(tenant=TENANTS, seconds=st.sampled_from([1.0, 30.0]))
    def exhaust(self, tenant, seconds):
        self.table.learn(LimitReading(remaining=0.0, resets_in=seconds), tenant, self.now)

    @rule(tenant=TENANTS, wait=st.sampled_from([0.0, 5.0, 1e9]))
    def apply(self, tenant, wait):
        self.table.apply(tenant, wait, self.now)

    @invariant()
    def the_table_is_bounded(self):
        assert len(self.table.throttles) <= MAX_TENANTS

    @invariant()
    def nobody_waits_for_ever(self):
        throttled = self.table.throttled(self.now)
        assert throttled.longest_wait <= LONGEST_WAIT + LEASE
        assert throttled.count == len(throttled.waits)
        for tenant, wait in throttled.waits.items():
            assert self.table.wait_of(tenant, self.now + wait) == 0.0


Tenants.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # the machine may be
)
TestTenants = Tenants.TestCase
