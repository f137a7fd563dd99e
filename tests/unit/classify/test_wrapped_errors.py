"""Errors that wrap others: causes, groups, the attempts of tenacity."""

import asyncio
import errno
from types import SimpleNamespace

import pytest
import tenacity

from resilience import classify_error
from tests.support.classifying import (
    ANSWERED,
    FAILURE,
    IGNORED,
    StatusError,
    caused,
    error_of,
    retried,
)


def test_a_retry_error_is_judged_by_its_last_attempt(http_error):
    assert classify_error(retried(http_error(503))) is FAILURE
    assert classify_error(retried(http_error(404), TimeoutError())) is FAILURE
    assert classify_error(retried(http_error(503), http_error(404))) is ANSWERED
    assert classify_error(retried(TimeoutError(), ValueError())) is IGNORED


def test_a_retry_error_around_a_retry_error_is_judged_by_the_innermost(http_error):
    assert classify_error(retried(retried(http_error(503)))) is FAILURE
    assert classify_error(retried(retried(http_error(404)))) is ANSWERED


async def test_an_asynchronous_tenacity_is_read_the_same(http_error):
    @tenacity.retry(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_none())
    async def attempt():
        raise http_error(503)

    with pytest.raises(tenacity.RetryError) as caught:
        await attempt()
    assert classify_error(caught.value) is FAILURE


def test_a_retry_error_whose_last_attempt_returned_is_ignored():
    @tenacity.retry(
        stop=tenacity.stop_after_attempt(2),
        wait=tenacity.wait_none(),
        retry=tenacity.retry_if_result(lambda result: result is None),
    )
    def attempt():
        return None

    with pytest.raises(tenacity.RetryError) as caught:
        attempt()
    assert classify_error(caught.value) is IGNORED


@pytest.mark.timeout(10)
def test_a_retry_error_whose_last_attempt_is_not_over_blocks_nobody():
    unfinished = tenacity.RetryError(tenacity.Future(attempt_number=1))
    assert classify_error(unfinished) is IGNORED


def test_a_retry_error_whose_last_attempt_was_cancelled_is_ignored():
    attempt = tenacity.Future(attempt_number=1)
    attempt.cancel()
    assert classify_error(tenacity.RetryError(attempt)) is IGNORED


def test_an_error_that_says_nothing_is_judged_by_its_cause(http_error):
    assert classify_error(caused(ValueError(), http_error(503))) is FAILURE
    assert classify_error(caused(ValueError(), caused(KeyError(), TimeoutError()))) is FAILURE
    assert classify_error(caused(ValueError(), retried(http_error(503)))) is FAILURE
    assert classify_error(caused(ValueError(), http_error(404))) is ANSWERED
    assert classify_error(caused(ValueError(), KeyError())) is IGNORED


def test_a_timeout_with_a_cause_stays_a_timeout():
    assert classify_error(caused(TimeoutError(), asyncio.CancelledError())) is FAILURE
    assert classify_error(caused(TimeoutError(), ValueError())) is FAILURE


def test_causes_that_run_in_a_circle_end():
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert classify_error(first) is IGNORED

    itself = ValueError()
    itself.__cause__ = itself
    assert classify_error(itself) is IGNORED

    group = ExceptionGroup("", [first])
    second.__cause__ = group
    assert classify_error(group) is IGNORED
    assert classify_error(first) is IGNORED


def test_a_circle_with_a_failure_in_it_is_a_failure(http_error):
    first, second = ValueError(), http_error(503)
    first.__cause__, second.__cause__ = second, first
    assert classify_error(first) is FAILURE


def test_a_retry_error_that_holds_itself_ends():
    attempt = tenacity.Future(attempt_number=1)
    error = tenacity.RetryError(attempt)
    attempt.set_exception(error)
    assert classify_error(error) is IGNORED


def test_a_very_long_chain_of_causes_is_survived():
    error = ValueError()
    for _ in range(20_000):
        error = caused(ValueError(), error)
    try:
        assert classify_error(error) is IGNORED
    finally:
        while error is not None:  # the interpreter itself may not survive freeing the chain at once
            error.__cause__, error = None, error.__cause__


def test_a_group_is_a_failure_if_any_leaf_is(http_error):
    inner = ExceptionGroup("inner", [KeyError(), http_error(503)])
    assert classify_error(ExceptionGroup("", [ValueError(), TimeoutError()])) is FAILURE
    assert classify_error(ExceptionGroup("", [ValueError(), inner])) is FAILURE
    assert classify_error(ExceptionGroup("", [caused(ValueError(), http_error(500))])) is FAILURE
    assert classify_error(ExceptionGroup("", [retried(http_error(500))])) is FAILURE
    assert classify_error(caused(ValueError(), inner)) is FAILURE


def test_a_group_without_a_failing_leaf_is_an_answer_if_any_leaf_is(http_error):
    inner = ExceptionGroup("inner", [KeyError(), http_error(404)])
    own = OSError(errno.EMFILE, "Too many open files")
    assert classify_error(ExceptionGroup("", [ValueError(), inner])) is ANSWERED
    assert classify_error(ExceptionGroup("", [ValueError(), KeyError()])) is IGNORED
    assert classify_error(ExceptionGroup("", [http_error(407), http_error(429)])) is ANSWERED
    assert classify_error(ExceptionGroup("", [ValueError(), http_error(407)])) is IGNORED
    assert classify_error(ExceptionGroup("", [http_error(404), TimeoutError()])) is FAILURE
    assert classify_error(ExceptionGroup("", [own])) is IGNORED
    assert classify_error(BaseExceptionGroup("", [asyncio.CancelledError()])) is IGNORED


async def test_the_group_of_a_real_task_group_is_read(http_error):
    async def fail():
        raise http_error(503)

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
    assert classify_error(caught.value) is FAILURE


def test_a_retry_error_that_nobody_raised_is_judged_by_its_last_attempt_too(http_error):
    attempt = tenacity.Future(1)
    attempt.set_exception(http_error(503))
    assert classify_error(tenacity.RetryError(attempt)) is FAILURE


@pytest.mark.parametrize(("status", "outcome"), [(503, FAILURE), (404, ANSWERED), (200, IGNORED)])
def test_a_retry_error_over_a_result_is_judged_by_the_status_of_the_result(status, outcome):
    attempt = tenacity.Future(1)
    attempt.set_result(SimpleNamespace(status=status))
    assert classify_error(tenacity.RetryError(attempt)) is outcome


@pytest.mark.parametrize(("status", "outcome"), [(503, FAILURE), (404, ANSWERED), (200, IGNORED)])
def test_a_retry_error_over_an_answer_with_its_content_is_judged_by_the_answer(status, outcome):
    attempt = tenacity.Future(1)
    attempt.set_result((SimpleNamespace(status=status), b"content"))
    assert classify_error(tenacity.RetryError(attempt)) is outcome


@pytest.mark.parametrize("name", ["original_exception", "original_error", "inner_exception"])
def test_an_error_may_keep_what_it_wraps_in_an_attribute_of_a_telling_name(name, http_error):
    assert classify_error(StatusError(**{name: TimeoutError()})) is FAILURE
    assert classify_error(StatusError(**{name: http_error(404)})) is ANSWERED
    assert classify_error(StatusError(**{name: ValueError()})) is IGNORED
    assert classify_error(StatusError(**{name: "a text"})) is IGNORED


def test_a_status_speaks_for_itself_whatever_the_error_was_raised_from():
    error = RuntimeError()
    error.status = 302
    error.__cause__ = TimeoutError()
    assert classify_error(error) is IGNORED


class Failure(BaseException):
    """What Twisted hands around in the place of an error."""

    def __init__(self, value):
        super().__init__()
        self.value = value


@pytest.mark.parametrize(
    ("reasons", "outcome"),
    [
        ([Failure(TimeoutError())], FAILURE),
        ([Failure(KeyError()), Failure(ConnectionResetError())], FAILURE),
        ([Failure("nothing")], IGNORED),
        ([], FAILURE),
    ],
)
def test_a_failure_of_twisted_is_judged_by_its_error(reasons, outcome):
    error = error_of("twisted.web._newclient.ResponseFailed", reasons, reasons=reasons)
    assert classify_error(error) is outcome


def test_an_error_that_wraps_is_an_outage_unless_what_it_wraps_says_something(http_error):
    def hosts(**errors):
        return error_of("cassandra.cluster.NoHostAvailable", "none", errors=errors)

    refused = error_of("cassandra.AuthenticationFailed")
    assert classify_error(hosts()) is FAILURE
    assert classify_error(hosts(a=KeyError())) is FAILURE
    assert classify_error(hosts(a=refused, b=TimeoutError())) is FAILURE
    assert classify_error(hosts(a=refused, b=refused)) is ANSWERED
    assert classify_error(hosts(a=OSError(errno.EMFILE, "Too many open files"))) is IGNORED
    told = error_of("kombu.exceptions.OperationalError", "[Errno 24] Too many open files")
    assert classify_error(told) is IGNORED


def test_a_retry_error_of_requests_is_judged_by_its_argument():
    def exhausted(text):
        reason = error_of("urllib3.exceptions.ResponseError", text)
        tried = error_of("urllib3.exceptions.MaxRetryError", "no more", reason=reason)
        return error_of("requests.exceptions.RetryError", tried)

    assert classify_error(exhausted("too many 503 error responses")) is FAILURE
    assert classify_error(exhausted("too many 429 error responses")) is ANSWERED
    assert classify_error(exhausted("too many redirects")) is IGNORED


def test_the_arguments_of_an_error_of_the_users_do_not_speak_for_it():
    assert classify_error(ValueError(TimeoutError())) is IGNORED
