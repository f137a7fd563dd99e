"""`transient_retry`: its defaults, what it takes, and the function that it makes."""

import inspect
import time

import pytest
import tenacity
from tenacity import AsyncRetrying, Retrying, retry_if_exception_type, stop_after_attempt, wait_none

from resilience import CircuitBreaker
from resilience.retry import (
    RetryBudget,
    gate,
    is_transient,
    transient_retry,
    wait_retry_after,
    wait_until_ready,
)
from tests.support.driving import ServerError
from tests.support.retrying import Backend, Sleeps, state_after

# Defaults


async def test_by_default_there_are_five_attempts_and_the_real_error_comes_out():
    backend, sleeps = Backend(), Sleeps()
    with pytest.raises(ServerError):
        await transient_retry(sleep=sleeps)(backend.send)()
    assert (backend.attempts, len(sleeps)) == (5, 4)


def test_by_default_there_are_five_plain_attempts_too():
    backend, sleeps = Backend(), Sleeps()
    with pytest.raises(ServerError):
        transient_retry(sleep=sleeps.plain)(backend.send_plain)()
    assert (backend.attempts, len(sleeps)) == (5, 4)


def test_by_default_the_wait_doubles_from_1_second_with_jitter_to_32_at_most():
    send = transient_retry()(Backend().send)
    for attempt in range(1, 12):
        least = min(2 ** (attempt - 1), 32)
        waits = {send.retry.wait(state_after(ServerError(), attempt=attempt)) for _ in range(20)}
        assert least <= min(waits)
        assert max(waits) <= min(least + 1, 32)
        assert len(waits) > 1 or least == 32


async def test_a_success_is_one_attempt():
    backend = Backend(default=None)
    assert await transient_retry()(backend.send)() == "sent"
    assert backend.attempts == 1


async def test_a_late_success_is_returned():
    backend, sleeps = Backend(TimeoutError(), ConnectionResetError(), default=None), Sleeps()
    assert await transient_retry(sleep=sleeps)(backend.send)() == "sent"
    assert (backend.attempts, len(sleeps)) == (3, 2)


def test_a_late_success_of_a_plain_function_is_returned():
    backend, sleeps = Backend(TimeoutError(), ConnectionResetError(), default=None), Sleeps()
    assert transient_retry(sleep=sleeps.plain)(backend.send_plain)() == "sent"
    assert (backend.attempts, len(sleeps)) == (3, 2)


# What is given wins


@pytest.mark.parametrize("count", [1, 2, 7])
async def test_attempts_says_how_many_there_are(count):
    backend = Backend()
    with pytest.raises(ServerError):
        await transient_retry(attempts=count, wait=wait_none())(backend.send)()
    assert backend.attempts == count


async def test_a_given_stop_wins_over_attempts():
    backend = Backend()
    with pytest.raises(ServerError):
        await transient_retry(attempts=7, stop=stop_after_attempt(3), wait=wait_none())(
            backend.send
        )()
    assert backend.attempts == 3


async def test_a_given_reraise_wins():
    with pytest.raises(tenacity.RetryError):
        await transient_retry(attempts=2, wait=wait_none(), reraise=False)(Backend().send)()


async def test_a_given_retry_wins():
    backend = Backend(default=KeyError)
    with pytest.raises(KeyError):
        await transient_retry(
            attempts=3, wait=wait_none(), retry=is_transient | retry_if_exception_type(KeyError)
        )(backend.send)()
    assert backend.attempts == 3


async def test_hooks_a_callback_and_an_error_class_are_tenacitys():
    seen, backend = [], Backend()
    send = transient_retry(
        attempts=2,
        wait=wait_none(),
        before=lambda s: seen.append(("before", s.attempt_number)),
        after=lambda s: seen.append(("after", s.attempt_number)),
        before_sleep=lambda s: seen.append(("before_sleep", s.attempt_number)),
        retry_error_callback=lambda s: s.attempt_number,
    )(backend.send)
    assert await send() == 2
    assert seen == [("before", 1), ("after", 1), ("before_sleep", 1), ("before", 2), ("after", 2)]


# The function


async def test_what_tenacity_offers_on_the_function_stays():
    backend = Backend()
    send = transient_retry(wait=wait_none())(backend.send)
    assert isinstance(send.retry, AsyncRetrying)
    with pytest.raises(ServerError):
        await send()
    assert send.statistics["attempt_number"] == 5
    with pytest.raises(ServerError):
        await send.retry_with(stop=stop_after_attempt(2))()
    assert backend.attempts == 7


def test_what_tenacity_offers_on_a_plain_function_stays():
    backend = Backend()
    send = transient_retry(wait=wait_none())(backend.send_plain)
    assert isinstance(send.retry, Retrying)
    with pytest.raises(ServerError):
        send()
    assert send.statistics["attempt_number"] == 5
    with pytest.raises(ServerError):
        send.retry_with(stop=stop_after_attempt(2))()
    assert backend.attempts == 7


def test_what_tenacity_offers_stays_under_the_breaker(clock):
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    backend = Backend(*[TimeoutError()] * 9, default=None)
    send = breaker(transient_retry(attempts=3, wait=wait_none())(backend.send_plain))
    with pytest.raises(TimeoutError):
        send()
    assert send.statistics["attempt_number"] == 3
    assert isinstance(send.retry, Retrying)
    assert breaker.snapshot().failures == 1
    assert send.retry_with(stop=stop_after_attempt(9))() == "sent"


@pytest.mark.parametrize("decorate", [transient_retry(), gate])
def test_a_function_keeps_its_name_its_signature_and_its_kind(decorate):
    async def send(credentials, *, text="hello"):
        """Send it."""

    decorated = decorate(send)
    assert (decorated.__name__, decorated.__doc__) == ("send", "Send it.")
    assert inspect.signature(decorated) == inspect.signature(send)
    assert inspect.iscoroutinefunction(decorated)
    assert not inspect.iscoroutinefunction(decorate(lambda: None))


async def test_arguments_and_results_pass_unchanged():
    @transient_retry()
    async def send(*args, **kwargs):
        return args, kwargs

    assert await send(1, two=2) == ((1,), {"two": 2})


# Wrong arguments


@pytest.mark.parametrize("value", [0, -1, 2.5, "5", True, None])
def test_wrong_attempts_are_named(value):
    with pytest.raises((TypeError, ValueError), match="attempts"):
        transient_retry(attempts=value)


@pytest.mark.parametrize("value", ["calls", "", None, 1, True])
def test_a_wrong_count_per_is_named(value):
    with pytest.raises((TypeError, ValueError), match="count_per"):
        transient_retry(count_per=value)


@pytest.mark.parametrize("value", [0.2, True, "on", RetryBudget])
def test_a_wrong_budget_is_named(value):
    with pytest.raises(TypeError, match="budget"):
        transient_retry(budget=value)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"attempts": 0}, ValueError, "attempts must be a whole number of at least 1, got 0"),
        ({"attempts": "5"}, TypeError, "attempts must be a whole number of at least 1, got str"),
        ({"count_per": "day"}, ValueError, "count_per must be 'call' or 'attempt', got 'day'"),
        ({"budget": 0.2}, TypeError, "budget must be a RetryBudget, got float"),
    ],
)
def test_what_is_wrong_with_a_setting_is_named(wrong, error, says):
    with pytest.raises(error, match=says):
        transient_retry(**wrong)


@pytest.mark.parametrize("name", ["wait", "retry", "stop"])
def test_a_wrong_strategy_is_named(name):
    with pytest.raises(TypeError, match=name):
        transient_retry(**{name: "soon"})(Backend().send)


async def asks(_):
    return True


def pages(_):
    yield True


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"retry": TimeoutError},
            (
                r"retry must be a callable that takes a RetryCallState, got the class TimeoutError:"
                r" write retry_if_exception_type\(TimeoutError\)"
            ),
        ),
        ({"retry": (TimeoutError, OSError)}, r"got tuple: write retry_if_exception_type\(\.\.\.\)"),
        ({"retry": TimeoutError()}, "RetryCallState, got TimeoutError$"),
        ({"retry": None}, "RetryCallState, got NoneType$"),
        ({"retry": ()}, "RetryCallState, got tuple$"),
        ({"retry": tenacity.retry_always.__class__}, r"got the class .*: write .*\(\.\.\.\)"),
        ({"retry": lambda: True}, "got .*<lambda>, which does not$"),
        ({"retry": pages}, "got the generator pages$"),
        ({"retry": tenacity.retry_any(is_transient, TimeoutError)}, "got the class TimeoutError"),
        (
            {"retry": is_transient | tenacity.retry_all(is_transient, "never")},
            "retry must be .* got str$",
        ),
        (
            {"retry": tenacity.retry_if_exception(TimeoutError)},
            "retry: retry_if_exception must have a plain function, got the class TimeoutError",
        ),
        (
            {"retry": tenacity.retry_if_result(asks)},
            "retry: retry_if_result must have a plain function, got the async asks$",
        ),
        (
            {"retry": retry_if_exception_type("TimeoutError")},
            "retry: retry_if_exception_type must have exception types, got str$",
        ),
        (
            {"retry": tenacity.retry_if_exception_cause_type([TimeoutError])},
            "retry: retry_if_exception_cause_type must have exception types, got list$",
        ),
        (
            {"wait": tenacity.wait_exponential},
            r"the class wait_exponential: write wait_exponential\(",
        ),
        ({"wait": 5}, "wait must be a callable that takes a RetryCallState, got int$"),
        (
            {"wait": tenacity.wait_chain(tenacity.wait_fixed)},
            "wait must be .* the class wait_fixed",
        ),
        ({"wait": wait_none() + tenacity.wait_fixed}, "wait must be .* the class wait_fixed"),
        ({"stop": stop_after_attempt}, "stop must be .* got the class stop_after_attempt"),
        ({"stop": tenacity.stop_any(3)}, "stop must be .* got int$"),
        ({"stop": None}, "stop must be .* got NoneType$"),
        ({"before": print, "after": "log"}, "after must be .* got str$"),
        ({"before": TimeoutError}, "before must be .* got the class TimeoutError"),
        ({"before_sleep": lambda: None}, "before_sleep must be .* which does not$"),
        ({"retry_error_callback": "None"}, "retry_error_callback must be .* got str$"),
        ({"sleep": 5}, "sleep must be a callable that takes seconds, got int$"),
        ({"sleep": None}, "sleep must be a callable that takes seconds, got NoneType$"),
        ({"sleep": lambda: None}, "sleep must be a callable that takes seconds, got .*<lambda>"),
        ({"retry_error_cls": "RetryError"}, "retry_error_cls must be an exception type, got str$"),
        (
            {"retry_error_cls": ValueError},
            (
                "retry_error_cls must be a subclass of tenacity.RetryError, or used with"
                " reraise=False, got the class ValueError$"
            ),
        ),
    ],
)
def test_what_would_fail_at_the_first_retry_or_never_end_is_refused(wrong, says):
    with pytest.raises(TypeError, match=says):
        transient_retry(**wrong)


@pytest.mark.parametrize(
    "right",
    [
        {"wait": 0},
        {"wait": None},
        {"wait": tenacity.wait_chain(wait_none())},
        {"before": None, "after": None, "before_sleep": None, "retry_error_callback": None},
        {"retry": retry_if_exception_type((TimeoutError, OSError))},
        {"retry": lambda *_: False},
        {"before": print},
        {"retry_error_cls": ValueError, "reraise": False},
        {"retry_error_cls": type("Gone", (tenacity.RetryError,), {})},
    ],
)
def test_what_tenacity_can_work_with_is_accepted(right):
    backend = Backend(default=None)
    assert transient_retry(**right)(backend.send_plain)() == "sent"


@pytest.mark.parametrize(
    "name", ["wait", "retry", "stop", "before", "after", "before_sleep", "retry_error_callback"]
)
def test_an_async_setting_is_refused_for_a_plain_function(name):
    says = rf"{name} must be a plain function for the plain .*send_plain, got the async asks"
    with pytest.raises(TypeError, match=says):
        transient_retry(**{name: asks})(Backend().send_plain)
    assert inspect.iscoroutinefunction(transient_retry(**{name: asks})(Backend().send))


def test_an_async_condition_among_others_is_refused_for_a_plain_function():
    retry = is_transient | tenacity.asyncio.retry_if_exception(asks)
    with pytest.raises(TypeError, match="retry must be a plain function for the plain"):
        transient_retry(retry=retry)(Backend().send_plain)


@pytest.mark.parametrize("sleep", [time.sleep, tenacity.sleep])
def test_a_sleep_that_blocks_is_refused_for_an_async_function(sleep):
    with pytest.raises(TypeError, match=r"sleep must be an async def for .*send, got one that"):
        transient_retry(sleep=sleep)(Backend().send)
    assert transient_retry(sleep=sleep)(Backend(default=None).send_plain)() == "sent"


@pytest.mark.parametrize("make", [wait_retry_after, wait_until_ready])
@pytest.mark.parametrize("wrong", [tenacity.wait_exponential, TimeoutError, lambda: 1.0])
def test_a_wrong_fallback_is_refused(make, wrong):
    with pytest.raises(TypeError, match="fallback must be a callable that takes a RetryCallState"):
        make(wrong)


def test_an_unknown_argument_is_named():
    with pytest.raises(TypeError, match="atempts"):
        transient_retry(atempts=5)(Backend().send)


async def test_what_cannot_be_retried_is_refused_when_decorating():
    async def pages():
        yield 1

    with pytest.raises(TypeError, match=r"@transient_retry cannot decorate the generator"):
        transient_retry()(pages)
    with pytest.raises(TypeError, match=r"@transient_retry decorates a function, got int"):
        transient_retry()(7)


@pytest.mark.parametrize("target", ["send", None, 7, tenacity.stop_never.__class__])
def test_gate_says_what_it_takes(target):
    with pytest.raises(TypeError, match="gate"):
        gate(target)


def test_the_decorator_refuses_what_is_not_a_function():
    with pytest.raises(TypeError):
        transient_retry()("send")
