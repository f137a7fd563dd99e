"""What says nothing about a region, and errors whose attributes bite."""

import asyncio
import pickle
from concurrent.futures import Future

import pytest
import trio

from resilience import CircuitBreaker, CircuitBreakerOpenError, Outcome, classify_error
from tests.support.classifying import (
    FAILURE,
    IGNORED,
    BitingResponseError,
    StatusError,
    caused,
    retried,
)

# Not the region's word


@pytest.mark.parametrize(
    "kind", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit]
)
def test_what_ends_a_task_or_the_program_is_ignored(kind, http_error):
    assert classify_error(kind()) is IGNORED
    assert classify_error(caused(kind(), http_error(503))) is IGNORED


def test_trio_s_cancellation_is_ignored():
    seen = []

    async def main():
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except BaseException as error:
                seen.append(error)
                raise

    trio.run(main)
    assert classify_error(seen[0]) is IGNORED


def rejection():
    breaker = CircuitBreaker("mypurecloud.ie")
    breaker.force_open("by a test")
    with pytest.raises(CircuitBreakerOpenError) as caught:
        breaker.acquire()
    return caught.value


def test_another_breakers_rejection_is_ignored(http_error):
    assert classify_error(rejection()) is IGNORED
    assert classify_error(caused(rejection(), http_error(503))) is IGNORED
    assert classify_error(caused(ValueError(), rejection())) is IGNORED
    assert classify_error(retried(http_error(503), rejection())) is IGNORED


# Objects that bite


class BitingError(Exception):
    def __getattr__(self, name):
        raise RuntimeError(name)


class BitingStatusError(Exception):
    status_code = 503

    @property
    def status(self):
        raise RuntimeError("not ready")


class BitingTimeoutError(TimeoutError):
    @property
    def status(self):
        raise RuntimeError("not ready")

    @property
    def response(self):
        raise KeyError("file")


class BitingComparisonError(Exception):
    class Status(int):
        def __ge__(self, other):
            raise RuntimeError("no order here")

        __eq__ = __le__ = __lt__ = __gt__ = __ge__
        __hash__ = None

    status = Status(503)


def test_an_error_whose_properties_raise_is_judged_by_the_rest_of_it():
    assert classify_error(BitingError()) is IGNORED
    assert classify_error(caused(BitingError(), TimeoutError())) is FAILURE
    assert classify_error(BitingStatusError()) is FAILURE
    assert classify_error(BitingTimeoutError()) is FAILURE
    assert classify_error(BitingResponseError()) is IGNORED


class BitingFuture(Future):
    """A future that is none."""

    def __init__(self):
        pass

    @property
    def _condition(self):
        raise RuntimeError("bitten")


def test_the_classifier_raises_for_no_error():
    assert classify_error(StatusError(last_attempt=BitingFuture())) is IGNORED
    assert classify_error(BitingComparisonError()) in Outcome
    assert classify_error(StatusError(response=BitingResponseError.Response())) is IGNORED
    assert classify_error(StatusError(last_attempt="none", reason=7, os_error=7)) is IGNORED


def test_asking_changes_nothing_in_the_error(http_error):
    error = caused(ValueError("bad"), http_error(503))
    traceback, state = error.__traceback__, dict(vars(error))
    classify_error(error)
    assert error.__traceback__ is traceback
    assert vars(error) == state


def test_the_default_classifier_can_be_pickled():
    assert pickle.loads(pickle.dumps(classify_error)) is classify_error


# Errors made to be expensive


@pytest.mark.timeout(10)
def test_groups_that_share_their_children_cost_no_more_than_there_are():
    group = ExceptionGroup("", [ValueError()])
    for _ in range(15):
        group = ExceptionGroup("", [group] * 8)
    assert classify_error(group) is IGNORED
    assert classify_error(caused(TimeoutError(), group)) is FAILURE
    assert classify_error(caused(ValueError(), group)) is IGNORED


@pytest.mark.timeout(10)
def test_a_wide_group_is_read_to_its_end():
    errors = [ValueError() for _ in range(20_000)]
    assert classify_error(ExceptionGroup("", errors)) is IGNORED
    assert classify_error(ExceptionGroup("", [*errors, TimeoutError()])) is FAILURE


def test_an_error_that_makes_new_ones_without_end_ends():
    class HydraError(Exception):
        @property
        def reason(self):
            return HydraError()

    assert classify_error(HydraError()) is IGNORED


class OddText(str):
    __slots__ = ()

    def __contains__(self, part):
        raise RuntimeError("no parts")


def test_numbers_and_texts_of_any_class_are_survived():
    class Number(int):
        def __int__(self):
            raise RuntimeError("no number")

        def __ge__(self, other):
            raise RuntimeError("no order")

        __le__ = __gt__ = __lt__ = __ge__

    for error in (OSError(Number(24), "odd"), OSError(10**5000, "huge"), OSError("24", "text")):
        assert classify_error(error) in Outcome
    assert classify_error(TimeoutError(OddText("Too many open files"))) is FAILURE
    assert classify_error(ConnectionError("x" * 50_000 + "Too many open files")) is FAILURE
    assert classify_error(StatusError(args=7, reason=[TimeoutError()])) is FAILURE


def test_an_error_that_hides_its_arguments_is_judged_by_the_rest_of_it():
    class HiddenError(TimeoutError):
        @property
        def args(self):
            raise RuntimeError("hidden")

    assert classify_error(HiddenError()) is FAILURE
