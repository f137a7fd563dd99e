"""Nobody's code runs under the lock: whatever a user's function waits for, the package goes on."""

import asyncio
import gc
import threading
from contextlib import suppress

import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    Outcome,
    region_breaker,
)

PATIENCE = 20.0  # seconds; only a lock that is held uses them up


class UnavailableError(Exception):
    status = 503


class LockProbe:
    """Code of a user's that finds out whether another thread can use the package meanwhile."""

    def __init__(self):
        self.bystander = CircuitBreaker("bystander", BreakerPolicy(failure_threshold=10**6))
        self.calls = 0
        self.blocked = 0
        self.enabled = True

    def __call__(self, *_args, **_kwargs):
        if not self.enabled:
            return
        self.calls += 1
        thread = threading.Thread(target=self.use_the_package, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        self.blocked += thread.is_alive()

    def use_the_package(self):
        self.bystander.acquire().fail()
        CircuitBreakerRegistry().get("another")


@pytest.fixture
def user_code():
    probe = LockProbe()
    yield probe
    assert probe.calls > 0, "the user's code was never called"
    assert probe.blocked == 0, "the user's code was called under the lock"


def everything(registry):
    """Use every door of a registry and of its breakers."""

    @region_breaker(region_from="region", registry=registry)
    def send(region, error=None):
        if error is not None:
            raise error
        return "sent"

    for region in ("a", "b", "A"):
        send(region)
        for _ in range(2):
            with suppress(UnavailableError):
                send(region, UnavailableError())
        with suppress(CircuitBreakerOpenError):
            send(region)
        breaker = registry.get(region)
        assert breaker.state in set(CircuitState)
        assert breaker.snapshot().region
        assert breaker.classify(ValueError()) is Outcome.IGNORED
        breaker.force_open("maintenance")
        breaker.reset()
    registry.configure(policy=BreakerPolicy(failure_threshold=2, recovery_timeout=1))
    registry.configure(max_regions=1)
    assert registry.snapshots()
    registry.reset()


def test_the_clock(user_code):
    clock_time = [0.0]

    def clock():
        user_code()
        clock_time[0] += 0.25
        return clock_time[0]

    everything(CircuitBreakerRegistry(BreakerPolicy(failure_threshold=2), clock=clock))


def test_the_names(user_code):
    def normalize(region):
        user_code()
        return region.lower()

    everything(CircuitBreakerRegistry(BreakerPolicy(failure_threshold=2), normalize=normalize))


def test_the_classifiers(user_code):
    def classify(error):
        user_code()
        return Outcome.FAILURE if isinstance(error, UnavailableError) else Outcome.IGNORED

    def classify_result(_result):
        user_code()
        return Outcome.SUCCESS

    policy = BreakerPolicy(failure_threshold=2)
    everything(
        CircuitBreakerRegistry(policy, classifier=classify, result_classifier=classify_result)
    )


def test_the_listeners(user_code):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=2))
    registry.listen(user_code)
    registry.get("a").listen(user_code)
    everything(registry)


def test_the_listeners_of_rejections(user_code):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=2))
    registry.on_rejection(user_code)
    everything(registry)


class CompareLoudly:
    """A setting whose comparison is a user's code."""

    def __init__(self, user_code):
        self.user_code = user_code

    def __call__(self, *_args):
        return 0.0

    def __eq__(self, other):
        self.user_code()
        return self is other

    __hash__ = None


def test_comparing_settings():
    user_code = LockProbe()
    registry = CircuitBreakerRegistry(clock=CompareLoudly(user_code))
    registry.get("a")
    registry.configure(max_regions=5)
    with pytest.raises(RuntimeError, match="clock can be set only"):
        registry.configure(clock=CompareLoudly(user_code))
    assert user_code.blocked == 0


class CollectGarbageInChanges(dict):
    """Stands in for a collection of garbage that comes in the middle of a change."""

    def __init__(self, collect):
        super().__init__()
        self.collect = collect

    def get(self, key, default=None):
        self.collect()
        return super().get(key, default)


def test_the_report_of_a_coroutine_that_is_collected_in_a_change(user_code, clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock)
    registry.listen(user_code)

    class Answer:
        def __await__(self):
            yield

    @region_breaker(region_from="region", registry=registry)
    def send(region):
        return Answer()

    other, breaker = registry.get("other"), registry.get("a")
    user_code.enabled = False
    breaker.acquire().fail()
    clock.advance(60)
    abandoned = [send("a")]  # holds the place of the probe, and is never awaited
    assert breaker.retry_after == 1.0
    user_code.enabled = True

    def collect():
        while abandoned:
            abandoned.pop().close()
        gc.collect()

    # Whatever the package asks for in a change, Python may collect garbage there.
    other.circuit.transitions = CollectGarbageInChanges(collect)
    other.force_open("maintenance")
    assert breaker.retry_after == 0.0
    breaker.acquire().succeed()


def test_the_end_of_a_generator_that_is_collected_in_a_change(user_code, clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock)
    registry.listen(user_code)
    other, breaker = registry.get("other"), registry.get("a")

    def stream():
        with breaker.acquire() as permit:
            try:
                yield 1
            finally:
                permit.fail()

    generators = [stream()]
    next(generators[0])
    other.circuit.transitions = CollectGarbageInChanges(generators.clear)
    other.force_open("maintenance")
    assert breaker.state is CircuitState.OPEN


async def test_waiting_asks_the_clock_outside(user_code):
    def clock():
        user_code()
        return 0.0

    breaker = CircuitBreaker("a", BreakerPolicy(failure_threshold=1), clock=clock)
    breaker.acquire().fail()
    waiting = asyncio.create_task(breaker.wait_until_ready())
    await asyncio.sleep(0)
    breaker.reset()
    assert await waiting
