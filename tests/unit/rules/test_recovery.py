"""How long a circuit stays open: a Backoff, its jitter, and what the server asks for."""

import random

import pytest

from resilience import (
    Backoff,
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerRegistry,
    CircuitState,
    Outcome,
    classify_status,
)
from resilience.circuit import Circuit
from resilience.outcome import Report

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


class UnavailableError(Exception):
    status = 503

    def __init__(self, retry_after=None):
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}


def breaker_of(clock, *, seed=None, **policy):
    rng = None if seed is None else random.Random(seed)
    rules = BreakerPolicy(**{"failure_threshold": 1, "success_threshold": 1, **policy})
    return CircuitBreaker("eu-west-1", rules, clock=clock, rng=rng)


def fail(breaker, retry_after=None):
    """Let one call fail, and return how long the circuit is open then."""
    breaker.acquire().fail(UnavailableError(retry_after))
    return breaker.retry_after


def fail_probe(breaker, clock, retry_after=None):
    clock.advance(breaker.retry_after)
    assert breaker.state is HALF_OPEN
    return fail(breaker, retry_after)


# Growing


def test_it_grows_with_each_failed_probe_up_to_its_maximum(clock):
    breaker = breaker_of(clock, recovery_timeout=Backoff(1, 2, 10))
    waits = [fail(breaker), *(fail_probe(breaker, clock) for _ in range(6))]
    assert waits == [1, 2, 4, 8, 10, 10, 10]


def test_after_closing_it_is_the_first_again(clock):
    breaker = breaker_of(clock, recovery_timeout=Backoff(1, 3, 100))
    assert [fail(breaker), fail_probe(breaker, clock), fail_probe(breaker, clock)] == [1, 3, 9]
    clock.advance(9)
    breaker.acquire().succeed()
    assert breaker.state is CLOSED
    assert fail(breaker) == 1


def test_after_a_reset_it_is_the_first_again(clock):
    breaker = breaker_of(clock, recovery_timeout=Backoff(1, 3, 100))
    fail(breaker)
    fail_probe(breaker, clock)
    breaker.reset()
    assert fail(breaker) == 1


def test_a_row_of_failed_probes_without_end_is_harmless(clock):
    backoff = Backoff(1, 10, 1e300)
    assert backoff.wait(10**6, lambda: 0.0) == 1e300
    assert Backoff(2, 1, 2).wait(10**6, lambda: 0.0) == 2


def test_an_open_circuit_follows_another_recovery_timeout(clock):
    registry = CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=1, recovery_timeout=100), clock=clock
    )
    breaker = registry.get("eu-west-1")
    fail(breaker)
    policy = BreakerPolicy(failure_threshold=1, recovery_timeout=Backoff(5, 2, 50))
    registry.configure(policy=policy)
    assert breaker.retry_after == 5
    assert fail_probe(breaker, clock) == 10
    registry.configure(policy=policy)
    assert breaker.retry_after == 10


def test_the_half_open_reason_says_how_long_it_was(clock):
    breaker = breaker_of(clock, recovery_timeout=Backoff(1, 2, 10))
    events = []
    breaker.listen(events.append)
    fail(breaker)
    fail_probe(breaker, clock)
    fail_probe(breaker, clock)
    reasons = [event.reason for event in events if event.new is HALF_OPEN]
    assert reasons == ["recovery timeout of 1 s elapsed", "recovery timeout of 2 s elapsed"]


def test_a_probe_keeps_its_place_for_the_maximum(clock):
    policy = BreakerPolicy(recovery_timeout=Backoff(1, 2, 10))
    assert (policy.probe_lease, policy.longest_recovery) == (10, 10)


# Jitter


@pytest.mark.parametrize("seed", range(5))
def test_jitter_only_adds_and_never_exceeds_the_maximum(clock, seed):
    breaker = breaker_of(clock, seed=seed, recovery_timeout=Backoff(1, 2, 10, 0.5))
    least = [1, 2, 4, 10 / 1.5, 10 / 1.5]
    waits = [fail(breaker), *(fail_probe(breaker, clock) for _ in range(4))]
    for low, wait in zip(least, waits, strict=True):
        assert low <= wait <= low * 1.5 + 1e-9
        assert wait <= 10


def test_the_same_seed_gives_the_same_times(clock):
    first, second, other = (
        fail(breaker_of(clock, seed=seed, recovery_jitter=0.2)) for seed in (1, 1, 2)
    )
    assert first == second != other


def test_a_fixed_recovery_timeout_is_spread(clock):
    waits = [fail(breaker_of(clock, seed=seed, recovery_jitter=0.2)) for seed in range(200)]
    assert 60 <= min(waits) < 61
    assert 71 < max(waits) <= 72
    assert len(set(waits)) > 190


def test_a_registry_gives_its_source_of_chance_to_its_breakers(clock):
    waits = []
    for _ in range(2):
        policy = BreakerPolicy(failure_threshold=1, recovery_jitter=1)
        registry = CircuitBreakerRegistry(policy, clock=clock, rng=random.Random(3))
        waits.append([fail(registry.get(region)) for region in "ab"])
    assert waits[0] == waits[1]
    assert waits[0][0] != waits[0][1]


def test_a_source_of_chance_is_a_random(clock):
    for make in (CircuitBreakerRegistry, lambda **kwargs: CircuitBreaker("a", **kwargs)):
        with pytest.raises(TypeError, match="rng must be a Random"):
            make(rng=random.random)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ((0,), "first"),
        ((1, 0.5), "factor"),
        ((10, 2, 5), "maximum"),
        ((10, 2, 11, 0.5), "maximum"),
        ((10, 2, 100, -0.1), "jitter"),
    ],
)
def test_a_backoff_with_wrong_numbers_is_an_error_that_names_the_number(fields, name):
    with pytest.raises(ValueError, match=name):
        Backoff(*fields)


# What the server asks for


def honest(clock, **kwargs):
    return breaker_of(clock, recovery_timeout=Backoff(10, 2, 100), honor_retry_after=True, **kwargs)


@pytest.mark.parametrize(("asked", "wait"), [(None, 10), (5, 10), (30, 30), (1000, 100)])
def test_a_retry_after_of_the_tripping_failure_prolongs_the_open(clock, asked, wait):
    assert fail(honest(clock), asked) == wait


def test_it_prolongs_only_that_one_open(clock):
    breaker = honest(clock)
    assert fail(breaker, 50) == 50
    assert fail_probe(breaker, clock) == 20
    assert fail_probe(breaker, clock, 90) == 90
    assert fail_probe(breaker, clock) == 80


def test_only_the_failure_that_opens_counts(clock):
    breaker = honest(clock, failure_threshold=3)
    breaker.acquire().fail(UnavailableError(90))
    breaker.acquire().fail(UnavailableError(90))
    assert fail(breaker) == 10


def test_it_is_not_read_unless_asked_for(clock):
    assert fail(breaker_of(clock, recovery_timeout=Backoff(10, 2, 100)), 50) == 10


async def test_it_is_read_from_errors_results_and_attempts(clock):
    class Response:
        status = 503

        def __init__(self):
            self.headers = {"Retry-After": "40"}

    async def returns():
        return Response()

    async def raises():
        raise UnavailableError(40)

    breaker = honest(clock)
    with pytest.raises(UnavailableError):
        await breaker.call(raises)
    assert breaker.retry_after == 40

    breaker = CircuitBreaker(
        "eu-west-1", breaker.policy, clock=clock, result_classifier=classify_status
    )
    await breaker.call(returns)
    assert breaker.retry_after == 40

    for asked, wait in ((40, 40), (None, 10)):
        breaker = honest(clock)
        permit = breaker.acquire()
        permit.attempt_failed(UnavailableError(asked))
        assert breaker.retry_after == wait


def test_a_refusal_with_a_delay_opens_nothing(clock):
    breaker = honest(clock)
    error = UnavailableError(50)
    error.status = 429
    assert breaker.classify(error) is Outcome.ANSWERED
    with pytest.raises(UnavailableError), breaker.acquire():
        raise error
    assert breaker.state is CLOSED


def test_what_the_server_asks_for_is_spread_too(clock):
    policy = {"recovery_timeout": Backoff(10, 2, 100, 0.5), "honor_retry_after": True}
    waits = [fail(breaker_of(clock, seed=seed, **policy), 40) for seed in range(50)]
    assert 40 <= min(waits) < max(waits) <= 60
    assert len(set(waits)) > 45


def test_a_circuit_by_itself_leaves_nothing_to_chance():
    circuit = Circuit(BreakerPolicy(recovery_timeout=10, recovery_jitter=0.5), 0)
    for _ in range(10):
        circuit.record(circuit.acquire(0), Report(Outcome.FAILURE, "ServerError 503"), 0)
    assert circuit.retry_after(0) == 10
