"""What was being handled when an error was raised, where the error itself says nothing."""

import errno

import aiohttp
import pytest
import redis

from resilience import CircuitBreaker, Outcome, classify_error
from tests.support.classifying import (
    ANSWERED,
    FAILURE,
    IGNORED,
    StatusError,
    caused,
    raised,
    type_of,
)

OUT_OF_FILES = [errno.EMFILE, errno.ENFILE]
OUTAGES = [TimeoutError, ConnectionResetError, ConnectionRefusedError]


def raise_while_handling(first, second, *, from_none=False):
    try:
        raise first
    except BaseException:
        if from_none:
            raise second from None
        raise second  # noqa: B904 - it is what is tested


def error_while_handling(first, second, **options):
    return raised(lambda: raise_while_handling(first, second, **options))


class MyError(Exception):
    pass


@pytest.mark.parametrize(
    ("handled", "outcome"),
    [
        (TimeoutError(), FAILURE),
        (StatusError(status=503), FAILURE),
        (caused(KeyError(), ConnectionResetError()), FAILURE),
        (ExceptionGroup("", [KeyError(), TimeoutError()]), FAILURE),
        # Only a failure speaks for an error that says nothing.
        (StatusError(status=404), IGNORED),
        (OSError(errno.EMFILE, "Too many open files"), IGNORED),
        (KeyError(), IGNORED),
        (KeyboardInterrupt(), IGNORED),
    ],
    ids=repr,
)
def test_an_error_that_says_nothing_is_judged_by_the_failure_that_was_handled(handled, outcome):
    assert classify_error(error_while_handling(handled, MyError("no details"))) is outcome


def test_it_may_be_several_errors_back():
    def second():
        raise_while_handling(TimeoutError(), KeyError())

    def third():
        try:
            second()
        except KeyError:
            raise MyError  # noqa: B904 - it is what is tested

    assert classify_error(raised(third)) is FAILURE


def test_it_may_have_been_raised_deeper_and_the_error_too():
    def connect():
        raise ConnectionRefusedError

    def complain():
        raise MyError

    def call():
        try:
            connect()
        except ConnectionRefusedError:
            complain()

    assert classify_error(raised(call)) is FAILURE


def test_a_group_that_was_raised_in_a_handler_is_judged_so_too():
    error = error_while_handling(TimeoutError(), ExceptionGroup("", [KeyError()]))
    assert classify_error(error) is FAILURE


def test_an_error_with_a_cause_is_judged_by_what_the_cause_handled():
    cause = error_while_handling(TimeoutError(), KeyError())
    assert classify_error(caused(MyError(), cause)) is FAILURE


def test_nothing_speaks_for_an_error_across_from_none():
    assert (
        classify_error(error_while_handling(TimeoutError(), MyError(), from_none=True)) is IGNORED
    )


def test_an_error_that_says_something_is_judged_alone():
    answered = error_while_handling(TimeoutError(), StatusError(status=404))
    assert classify_error(answered) is ANSWERED
    misuse = error_while_handling(TimeoutError(), type_of("httpx.LocalProtocolError")())
    assert classify_error(misuse) is IGNORED


def test_what_the_caller_was_handling_when_the_call_began_is_not_meant():
    breaker = CircuitBreaker("eu")

    @breaker
    def call():
        raise MyError

    try:
        raise TimeoutError
    except TimeoutError:
        error = raised(call)
        assert isinstance(error.__context__, TimeoutError)
    assert breaker.snapshot().failures == 0
    assert breaker.snapshot().ignored == 1


def test_what_the_call_itself_was_handling_is_meant():
    breaker = CircuitBreaker("eu")
    breaker_call = breaker(lambda: raise_while_handling(TimeoutError(), MyError()))
    assert isinstance(raised(breaker_call), MyError)
    assert breaker.snapshot().failures == 1


def test_an_error_that_was_never_raised_is_not_what_was_handled():
    error = raised(lambda: raise_while_handling(KeyError(), MyError()))
    error.__context__ = TimeoutError()
    assert classify_error(error) is IGNORED
    never_raised = MyError()
    never_raised.__context__ = error_while_handling(KeyError(), TimeoutError())
    assert classify_error(never_raised) is IGNORED


def test_errors_that_were_handled_in_a_circle_end():
    first = error_while_handling(KeyError(), MyError())
    first.__context__.__context__ = first
    assert classify_error(first) is IGNORED


# Never to turn a failure into something else


@pytest.mark.parametrize("number", OUT_OF_FILES)
@pytest.mark.parametrize("kind", OUTAGES)
@pytest.mark.parametrize("from_none", [False, True])
def test_an_outage_while_a_lack_of_files_is_handled_is_an_outage(number, kind, from_none):
    lack = OSError(number, "Too many open files")
    error = error_while_handling(lack, kind(), from_none=from_none)
    assert error.__context__ is lack
    assert classify_error(error) is Outcome.FAILURE


@pytest.mark.parametrize("number", OUT_OF_FILES)
def test_an_outage_that_is_raised_from_a_lack_of_files_is_this_machines(number):
    error = ConnectionError("cannot connect")
    error.__cause__ = OSError(number, "Too many open files")
    assert classify_error(error) is Outcome.IGNORED
    assert classify_error(ConnectionError(OSError(number, "of requests"))) is Outcome.IGNORED


# Some libraries never say `from`: what they wrap is what they handle


@pytest.mark.parametrize(
    "kind",
    [redis.ConnectionError, redis.TimeoutError, type_of("botocore.exceptions.ConnectionError")],
)
def test_a_library_that_hides_what_it_wraps_does_not_hide_a_lack_of_files(kind):
    lack = OSError(errno.EMFILE, "Too many open files")
    assert classify_error(error_while_handling(lack, kind("no details"))) is IGNORED
    refused = ConnectionRefusedError()
    assert classify_error(error_while_handling(refused, kind("no details"))) is FAILURE
    assert classify_error(error_while_handling(lack, aiohttp.ServerDisconnectedError())) is FAILURE
