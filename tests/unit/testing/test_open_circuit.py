"""open_circuit, and a registry that is set aside for a test."""

import gc

import pytest

from resilience import BreakerPolicy, CircuitBreakerRegistry, CircuitState, region_breaker
from resilience.testing import FakeClock, open_circuit


@pytest.fixture
def registry(clock):
    return CircuitBreakerRegistry(clock=clock)


def test_open_circuit_opens_as_an_outage_does(registry, clock):
    breaker = open_circuit("eu-west-1", registry)
    assert breaker is registry.get("eu-west-1")
    assert (breaker.state, breaker.retry_after) == (CircuitState.OPEN, 60.0)
    assert breaker.snapshot().trips == 1
    clock.advance(60)
    assert breaker.state is CircuitState.HALF_OPEN


def test_a_circuit_in_any_state_is_opened_for_a_whole_recovery_timeout(registry, clock):
    breaker = open_circuit("eu-west-1", registry)
    clock.advance(60)
    breaker.acquire()  # the only probe
    assert open_circuit("eu-west-1", registry).retry_after == 60.0
    breaker.force_open("by hand")
    assert open_circuit("eu-west-1", registry).retry_after == 60.0


def test_a_circuit_that_no_failure_opens_is_an_error(registry):
    registry.configure(policy=BreakerPolicy(failure_threshold=1_000_000))
    with pytest.raises(RuntimeError, match=r"100,000 failures have not opened .* 'eu-west-1'"):
        open_circuit("eu-west-1", registry)


@pytest.mark.parametrize("mode", ["observe", "off"])
def test_the_error_names_the_mode_in_which_no_circuit_opens(registry, mode):
    registry.configure(policy=BreakerPolicy(mode=mode))
    with pytest.raises(RuntimeError, match=f"mode is {mode}, in which it rejects nobody"):
        open_circuit("eu-west-1", registry)


# --- CircuitBreakerRegistry.isolated -------------------------------------------------------------


def test_an_isolated_registry_is_empty_and_gets_everything_back(registry, clock):
    heard, rejected = [], []
    registry.listen(heard.append)
    registry.on_rejection(rejected.append)
    before = open_circuit("eu-west-1", registry)
    changes = list(registry.history)
    with registry.isolated() as inside:
        assert inside is registry
        assert len(registry) == len(registry.history) == 0
        assert registry.get("eu-west-1") is not before
        open_circuit("eu-west-1", registry)
        assert len(registry.history) == 1
    assert registry.get("eu-west-1") is before
    assert list(registry.history) == heard == changes
    clock.advance(60)
    before.acquire()
    assert len(heard) == 2, "who listened before listens again"


def test_listeners_from_inside_hear_nothing_afterwards(registry):
    heard = []
    with registry.isolated():
        registry.listen(heard.append)
        kept = open_circuit("eu-west-1", registry)
    assert len(heard) == 1
    kept.reset()
    open_circuit("eu-west-1", registry)
    assert len(heard) == 1
    assert kept is not registry.get("eu-west-1")


def test_settings_are_those_from_before_unless_they_are_given(registry, clock):
    registry.configure(policy=BreakerPolicy(failure_threshold=2), allowed_regions=["here"])
    other = FakeClock(100.0)
    with registry.isolated(clock=other, policies={"here": BreakerPolicy(recovery_timeout=7)}):
        assert registry.now() == 100.0
        assert open_circuit("here", registry).retry_after == 7
        with pytest.raises(ValueError, match="not one of the allowed regions"):
            registry.get("there")
    assert registry.now() == clock()
    assert registry.get("here").policy == BreakerPolicy(failure_threshold=2)


def test_decorated_functions_follow(registry):
    @region_breaker(region_from="region", registry=registry)
    def send(region):
        return region

    send("eu-west-1")
    with registry.isolated():
        send("eu-west-1")
        send("eu-west-1")
        assert registry.get("eu-west-1").snapshot().successes == 2
    send("eu-west-1")
    assert registry.get("eu-west-1").snapshot().successes == 2


def test_blocks_nest_and_an_error_ends_them(registry):
    outer = open_circuit("eu-west-1", registry)
    with pytest.raises(ZeroDivisionError), registry.isolated(), registry.isolated():
        registry.get("eu-west-1")
        1 / 0  # noqa: B018
    assert registry.get("eu-west-1") is outer


def test_a_full_registry_evicts_afterwards_as_before(clock):
    registry = CircuitBreakerRegistry(max_regions=2, clock=clock)
    first = open_circuit("first", registry)
    registry.get("second")
    with registry.isolated():
        for number in range(5):
            registry.get(f"inside {number}")
        assert len(registry) == 2
    registry.get("third")
    assert [breaker.region for breaker in registry] == ["first", "third"]
    assert registry.get("first") is first


def test_a_breaker_that_was_evicted_is_found_again_afterwards(clock):
    registry = CircuitBreakerRegistry(max_regions=1, clock=clock)
    evicted = registry.get("first")
    registry.get("second")
    with registry.isolated():
        gc.collect()
    assert registry.get("first") is evicted


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"colour": 1}, TypeError),
        ({"policy": 1}, TypeError),
        ({"clock": 1}, TypeError),
        ({"max_regions": 0}, ValueError),
    ],
)
def test_a_wrong_setting_changes_nothing(registry, settings, error):
    breaker = registry.get("eu-west-1")
    with pytest.raises(error), registry.isolated(**settings):
        pass
    assert registry.get("eu-west-1") is breaker


class Sharing:
    """The least that a registry asks of a sharing."""

    is_closed = False

    def bind(self, owner):
        self.owner = owner

    def make_circuit(self, region, policy, now):
        return None

    def join(self, breaker):
        self.joined = breaker

    def adopt(self, breaker):
        self.joined = breaker

    def close(self):
        self.is_closed = True


def test_nothing_is_shared_inside_and_the_sharing_goes_on_afterwards(clock):
    sharing, inner = Sharing(), Sharing()
    registry = CircuitBreakerRegistry(sharing=sharing, clock=clock)
    with registry.isolated():
        registry.get("inside")
    with registry.isolated(sharing=inner):
        assert registry.get("shared inside") is inner.joined
    assert (sharing.is_closed, inner.is_closed) == (False, True)
    assert registry.get("outside") is sharing.joined


def test_what_is_not_a_registry_is_refused(registry):
    with pytest.raises(TypeError, match="registry must be a CircuitBreakerRegistry, got str"):
        open_circuit(registry, "eu-west-1")
