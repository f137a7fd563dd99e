"""The classifiers of a breaker: asked once, and survived whatever they do."""

import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    Outcome,
    classify_error,
    classify_status,
    failures,
)
from tests.support.driving import (
    HALF_OPEN,
    OPEN,
    ServerError,
    admits,
    answer,
    counters,
    half_open,
    raise_,
    raise_in,
)


class Response:
    def __init__(self, status):
        self.status = status


# Classifiers


async def test_the_classifier_decides_and_is_asked_once(clock):
    asked = []

    def judge(error):
        asked.append(error)
        return Outcome.SUCCESS if isinstance(error, KeyError) else Outcome.FAILURE

    breaker = CircuitBreaker("eu-west-1", classifier=judge, clock=clock)
    for error in (KeyError("a"), ValueError("b")):
        with pytest.raises(type(error)):
            await breaker.call(raise_, error)
    assert len(asked) == 2
    assert counters(breaker) == {"successes": 1, "failures": 1}


async def test_the_classifier_is_not_asked_about_a_success(clock):
    def judge(error):
        pytest.fail("nobody may ask")

    breaker = CircuitBreaker("eu-west-1", classifier=judge, clock=clock)
    assert await breaker.call(answer) == "sent"


async def test_failures_makes_a_type_count(clock):
    breaker = CircuitBreaker("eu-west-1", classifier=failures(ValueError), clock=clock)
    for error in (ValueError(), ServerError(), KeyError()):
        with pytest.raises(type(error)):
            await breaker.call(raise_, error)
    assert counters(breaker) == {"failures": 2, "ignored": 1}


def raising_classifier(_):
    raise ZeroDivisionError("hunter3")


def babbling_classifier(_):
    return "failure"


@pytest.mark.parametrize("judge", [raising_classifier, babbling_classifier])
async def test_a_broken_classifier_harms_no_call(clock, log, judge):
    breaker = CircuitBreaker("eu-west-1", classifier=judge, clock=clock)
    error = ServerError()
    with pytest.raises(ServerError) as caught:
        await breaker.call(raise_, error)
    assert caught.value is error
    assert counters(breaker) == {"ignored": 1}
    assert [entry["level"].name for entry in log] == ["ERROR"]


@pytest.mark.parametrize("judge", [raising_classifier, babbling_classifier])
def test_a_broken_classifier_harms_no_with_block(clock, judge):
    breaker = CircuitBreaker("eu-west-1", classifier=judge, clock=clock)
    error = ServerError()
    with pytest.raises(ServerError) as caught, breaker.acquire():
        raise error
    assert caught.value is error
    assert counters(breaker) == {"ignored": 1}


def test_the_log_of_a_broken_classifier_names_the_type_and_no_text(clock, log):
    breaker = CircuitBreaker("eu-west-1", classifier=raising_classifier, clock=clock)
    with pytest.raises(ServerError), breaker.acquire():
        raise ServerError
    assert "ZeroDivisionError" in log[0]["message"]
    assert "hunter" not in log[0]["message"]


@pytest.mark.parametrize("judge", [raising_classifier, babbling_classifier])
async def test_a_probe_with_a_broken_classifier_gives_its_place_back(clock, judge):
    breaker = CircuitBreaker("eu-west-1", classifier=judge, clock=clock)
    half_open(breaker, clock)
    with pytest.raises(ServerError):
        await breaker.call(raise_, ServerError())
    assert breaker.state is HALF_OPEN
    assert admits(breaker)


async def test_a_probe_whose_classifier_is_interrupted_gives_its_place_back(clock):
    def judge(_):
        raise KeyboardInterrupt

    breaker = CircuitBreaker("eu-west-1", classifier=judge, clock=clock)
    half_open(breaker, clock)
    with pytest.raises((KeyboardInterrupt, ServerError)), breaker.acquire():
        raise ServerError
    assert admits(breaker)


# Result classifiers


async def test_a_503_that_is_returned_is_a_success_unless_somebody_says_otherwise(breaker):
    response = Response(503)
    assert await breaker.call(answer, response) is response
    assert counters(breaker) == {"successes": 1}


async def test_a_result_classifier_judges_results(clock):
    breaker = CircuitBreaker(
        "eu-west-1", BreakerPolicy(), result_classifier=classify_status, clock=clock
    )
    for status in (200, 503, 404, 407):
        response = Response(status)
        assert await breaker.call(answer, response) is response
    assert counters(breaker) == {"successes": 1, "failures": 1, "answered": 1, "ignored": 1}


def test_a_result_classifier_judges_results_of_plain_functions(clock):
    breaker = CircuitBreaker(
        "eu-west-1",
        BreakerPolicy(failure_threshold=1),
        result_classifier=classify_status,
        clock=clock,
    )
    assert breaker(lambda: Response(503))().status == 503
    assert breaker.state is OPEN
    assert breaker.snapshot().reason == "Response 503"


@pytest.mark.parametrize("judge", [raising_classifier, babbling_classifier])
async def test_a_broken_result_classifier_still_returns_the_result(clock, log, judge):
    breaker = CircuitBreaker("eu-west-1", result_classifier=judge, clock=clock)
    half_open(breaker, clock)
    log.clear()
    assert await breaker.call(answer) == "sent"
    assert breaker.snapshot().ignored == 1
    assert "ERROR" in [entry["level"].name for entry in log]
    assert admits(breaker)


async def test_a_result_classifier_is_not_asked_about_errors(clock):
    def judge(result):
        pytest.fail("nobody may ask")

    breaker = CircuitBreaker("eu-west-1", result_classifier=judge, clock=clock)
    with pytest.raises(ServerError):
        await breaker.call(raise_, ServerError())


def test_the_default_classifier_is_classify_error(clock):
    breaker = CircuitBreaker("eu-west-1", classifier=classify_error, clock=clock)
    raise_in(breaker, ServerError(), 10)
    assert breaker.state is OPEN


def test_a_falsy_classifier_is_asked_all_the_same(clock):
    class Empty(list):
        def __call__(self, error):
            return Outcome.FAILURE

    breaker = CircuitBreaker("eu-west-1", classifier=Empty(), clock=clock)
    with pytest.raises(ValueError, match="x"), breaker.acquire():
        raise ValueError("x")
    assert breaker.snapshot().failures == 1


# What is said, to the letter


def faults(log):
    return [r["message"].splitlines()[0] for r in log if r["level"].name == "ERROR"]


def test_a_classifier_that_raises_is_named_with_its_role_and_its_error(clock, log):
    def judge(_):
        raise KeyError("a-tenants-bearer-token")

    breaker = CircuitBreaker("eu-west-1", classifier=judge, result_classifier=judge, clock=clock)
    with pytest.raises(ServerError), breaker.acquire():
        raise ServerError
    breaker(lambda: None)()
    name = judge.__qualname__
    assert faults(log) == [
        f"Circuit breaker classifier {name} for region eu-west-1 raised KeyError",
        f"Circuit breaker result_classifier {name} for region eu-west-1 raised KeyError",
    ]


def test_the_log_names_what_a_classifier_should_have_returned(clock, log):
    def judge(_):
        return True

    breaker = CircuitBreaker("eu-west-1", classifier=judge, clock=clock)
    with pytest.raises(ServerError), breaker.acquire():
        raise ServerError
    name = f"classifier {judge.__qualname__} for region eu-west-1"
    assert faults(log) == [f"Circuit breaker {name} returned a bool, expected an Outcome"]
