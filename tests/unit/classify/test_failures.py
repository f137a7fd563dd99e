"""`failures`: types of a user's own that count."""

import asyncio

import aiohttp
import pytest
import trio

from resilience import BreakerPolicy, CircuitBreaker, classify_error, failures
from tests.support.classifying import ANSWERED, FAILURE, IGNORED, caused, retried

# failures(*types)


def test_types_of_the_users_are_failures_and_the_rest_as_before(http_error):
    classify = failures(LookupError, ZeroDivisionError)
    assert classify(KeyError()) is FAILURE
    assert classify(ZeroDivisionError()) is FAILURE
    assert classify(ValueError()) is IGNORED
    assert classify(http_error(503)) is FAILURE
    assert classify(http_error(404)) is ANSWERED
    assert classify(TimeoutError()) is FAILURE


def test_a_type_of_the_users_weighs_more_than_its_status(http_error):
    assert failures(aiohttp.ClientResponseError)(http_error(404)) is FAILURE


def test_types_of_the_users_are_found_inside_wrappers():
    classify = failures(KeyError)
    assert classify(retried(ValueError(), KeyError())) is FAILURE
    assert classify(retried(KeyError(), ValueError())) is IGNORED
    assert classify(caused(ValueError(), KeyError())) is FAILURE
    assert classify(ExceptionGroup("", [ValueError(), KeyError()])) is FAILURE
    assert classify(caused(ValueError(), TimeoutError())) is FAILURE


@pytest.mark.parametrize(
    "bad", ["KeyError", KeyError(), int, None, (KeyError, ValueError), 503], ids=repr
)
def test_failures_takes_only_exception_types_and_says_what_came(bad):
    with pytest.raises(TypeError, match="failures"):
        failures(KeyError, bad)


class OwnTimeout(BaseException):
    """As of gevent: it ends a call from inside, and is no Exception."""


@pytest.mark.parametrize(
    "kind",
    [
        asyncio.CancelledError,
        GeneratorExit,
        KeyboardInterrupt,
        SystemExit,
        trio.Cancelled,
        type("Exit", (SystemExit,), {}),
        BaseException,
        BaseExceptionGroup,
    ],
)
def test_a_cancellation_or_an_exit_never_counts(kind):
    with pytest.raises(TypeError, match=rf"^failures\(\) never counts {kind.__name__}: "):
        failures(TimeoutError, kind)


def test_a_timeout_that_is_not_an_exception_may_count():
    assert failures(OwnTimeout)(OwnTimeout()) is FAILURE
    assert failures(LookupError)(OwnTimeout()) is IGNORED
    assert classify_error(OwnTimeout()) is IGNORED


# A breaker that never counts is noticed


class TestABreakerThatNeverCounts:
    @pytest.fixture
    def call(self, clock):
        breaker = CircuitBreaker("mypurecloud.ie", BreakerPolicy(), clock=clock)

        @breaker
        def protected(error=None):
            if error is not None:
                raise error

        def call(error, times):
            for _ in range(times):
                with pytest.raises(type(error)):
                    protected(error)

        call.success = protected
        return call

    def test_is_logged_once_after_100_errors_that_say_nothing(self, call, log):
        call(LookupError("a secret"), 99)
        assert log == []
        call(LookupError("a secret"), 201)
        assert [record["level"].name for record in log] == ["WARNING"]
        assert "LookupError" in log[0]["message"]
        assert "failures(" in log[0]["message"]
        assert "a secret" not in log[0]["message"]

    def test_is_not_logged_when_most_calls_succeed(self, call, log):
        call(LookupError(), 99)
        for _ in range(102):
            call.success()
        call(LookupError(), 99)
        assert log == []


def test_failures_names_what_is_not_an_exception_type():
    for wrong in (7, [TimeoutError], ValueError("a secret")):
        got = rf"got a?n? ?{type(wrong).__name__}$"
        with pytest.raises(TypeError, match=rf"^failures\(\) takes exception types, .*, {got}"):
            failures(TimeoutError, wrong)
    with pytest.raises(TypeError, match=r", got int, the class str$"):
        failures(TimeoutError, 7, str)
    with pytest.raises(TypeError, match=r"^failures\(\) takes at least one exception type: "):
        failures()


def test_failures_shows_no_value_that_came_instead_of_a_type():
    with pytest.raises(TypeError) as caught:
        failures("Bearer a-secret")
    assert "a-secret" not in str(caught.value)


def test_a_group_is_looked_into_however_deep_it_is():
    error = TimeoutError()
    for _ in range(5_000):
        error = ExceptionGroup("nested", [error])
    assert classify_error(error) is FAILURE
