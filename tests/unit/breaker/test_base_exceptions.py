"""A timeout that is not an `Exception`, such as gevent's, counts where `failures` names it."""

import asyncio

import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    Outcome,
    failures,
    region_breaker,
)
from tests.support.driving import CLOSED, OPEN, counters


class OwnTimeout(BaseException):
    pass


class Unrelated(BaseException):
    pass


ENDINGS = [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit, Unrelated]


@pytest.fixture
def breaker(clock):
    return CircuitBreaker(
        "eu-west-1",
        BreakerPolicy(failure_threshold=2),
        classifier=failures(OwnTimeout),
        clock=clock,
    )


def in_a_block(breaker, error):
    with breaker.acquire():
        raise error


def in_a_def(breaker, error):
    @breaker
    def send():
        raise error

    send()


def in_an_async_def(breaker, error):
    async def send():
        raise error

    sending = breaker(send)()
    sending.send(None)  # a loop would stop for an exit


ways = pytest.mark.parametrize("raise_in", [in_a_block, in_a_def, in_an_async_def])


@ways
def test_it_opens_the_circuit_and_reaches_the_caller(breaker, raise_in):
    for _ in range(2):
        error = OwnTimeout()
        with pytest.raises(OwnTimeout) as caught:
            raise_in(breaker, error)
        assert caught.value is error
    assert breaker.state is OPEN
    assert breaker.snapshot().reason == "OwnTimeout"


@ways
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_other_ending_is_ignored_and_passed_on(breaker, raise_in, ending):
    for _ in range(3):
        error = ending()
        with pytest.raises(ending) as caught:
            raise_in(breaker, error)
        assert caught.value is error
    assert breaker.state is CLOSED
    assert counters(breaker) == {"ignored": 3}


@pytest.mark.parametrize("ending", [*ENDINGS, OwnTimeout])
def test_a_classifier_of_a_users_own_is_not_asked(clock, ending):
    asked = []

    def judge(error):
        asked.append(error)
        return Outcome.FAILURE

    breaker = CircuitBreaker("eu-west-1", classifier=judge, clock=clock)
    with pytest.raises(ending):
        in_a_block(breaker, ending())
    assert breaker.classify(ending()) is Outcome.IGNORED
    assert asked == []
    assert counters(breaker) == {"ignored": 1}


def test_it_is_ignored_where_nobody_names_it(clock, log):
    breaker = CircuitBreaker("eu-west-1", classifier=failures(LookupError), clock=clock)
    for _ in range(150):
        with pytest.raises(OwnTimeout):
            in_a_block(breaker, OwnTimeout())
    assert counters(breaker) == {"ignored": 150}
    assert [record["level"].name for record in log] == ["WARNING"]
    assert "ended from outside" in log[0]["message"]
    assert log[0]["message"].endswith("count it: classifier=failures(OwnTimeout)")


def test_a_cancellation_is_not_offered_to_be_counted(clock, log):
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    for _ in range(150):
        with pytest.raises(asyncio.CancelledError):
            in_a_block(breaker, asyncio.CancelledError())
    assert ["failures(" in record["message"] for record in log] == [False]


def test_exceptions_are_judged_as_before_beside_it(breaker):
    assert breaker.classify(TimeoutError()) is Outcome.FAILURE
    assert breaker.classify(ValueError()) is Outcome.IGNORED
    assert breaker.classify(OwnTimeout()) is Outcome.FAILURE


def test_a_function_and_a_registry_may_name_it(clock):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock)

    @region_breaker(region_from="region", registry=registry, classifier=failures(OwnTimeout))
    def send(region):
        raise OwnTimeout

    with pytest.raises(OwnTimeout):
        send("eu-west-1")
    assert registry.get("eu-west-1").state is OPEN
    registry.configure(classifier=failures(OwnTimeout))
    with pytest.raises(OwnTimeout):
        in_a_block(registry.get("eu-west-2"), OwnTimeout())
    assert registry.get("eu-west-2").state is OPEN


def test_a_rejection_never_counts_whatever_types_are_named(clock):
    inner = CircuitBreaker("inner", clock=clock)
    inner.force_open("maintenance")
    breaker = CircuitBreaker("outer", classifier=failures(Exception, OwnTimeout), clock=clock)
    with pytest.raises(CircuitBreakerOpenError), breaker.acquire():
        inner.acquire()
    assert counters(breaker) == {"ignored": 1}
