"""transient_retry and its parts: what is retried, how long it waits, what counts."""

import asyncio
import gc
import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import aiohttp
import httpx
import pytest
import requests
import tenacity
from freezegun import freeze_time
from tenacity import (
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_fixed,
    wait_none,
)
from tenacity.wait import wait_exponential_jitter

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitState,
    Outcome,
    classify_error,
    region_breaker,
)
from resilience.retry import (
    RetryBudget,
    gate,
    is_transient,
    stop_unless_closed,
    transient_retry,
    wait_retry_after,
    wait_until_ready,
)

OPEN = CircuitState.OPEN
EU = "eu-west-1"
NEVER = wait_fixed(3600)


@pytest.fixture
def breaker(clock):
    return CircuitBreaker(EU, clock=clock)


def failing(errors):
    """A function that raises one error after the other, then returns."""
    left = iter(errors)

    def send():
        send.attempts += 1
        error = next(left, None)
        if error is not None:
            raise error
        return "sent"

    send.attempts = 0
    return send


def state_of(outcome, attempt=1):
    state = RetryCallState(tenacity.Retrying(), None, (), {})
    state.attempt_number = attempt
    if isinstance(outcome, BaseException):
        state.set_exception((type(outcome), outcome, None))
    else:
        state.set_result(outcome)
    return state


# The preset


def test_the_defaults_are_those_of_the_mission():
    loop = transient_retry()(failing([])).retry
    assert loop.reraise
    assert loop.retry is is_transient
    fallback = loop.wait.fallback
    assert type(fallback) is wait_exponential_jitter
    waits = [[fallback(state_of(TimeoutError(), n)) for _ in range(200)] for n in range(1, 9)]
    for n, (least, most) in enumerate([(1, 2), (2, 3), (4, 5), (8, 9), (16, 17), (32, 32)]):
        assert least <= min(waits[n])
        assert max(waits[n]) <= most
    assert min(waits[0]) < max(waits[0]), "with jitter"
    assert {max(wait) for wait in waits[5:]} == {32}


def test_five_attempts_are_made_and_the_caller_sees_the_real_error():
    send = failing([TimeoutError(n) for n in range(9)])
    with pytest.raises(TimeoutError, match="4"):
        transient_retry(wait=wait_none())(send)()
    assert send.attempts == 5


def test_a_def_that_comes_right_returns_its_result():
    send = failing([TimeoutError(), ConnectionResetError()])
    assert transient_retry(wait=wait_none())(send)() == "sent"
    assert send.attempts == 3


async def test_an_async_def_that_comes_right_returns_its_result():
    sync = failing([TimeoutError()])

    @transient_retry(wait=wait_none())
    async def send():
        return sync()

    assert await send() == "sent"
    assert asyncio.iscoroutinefunction(send)


def test_everything_that_tenacity_takes_wins():
    send = failing([ValueError()] * 9)
    given = {
        "stop": stop_after_attempt(2),
        "retry": retry_if_exception_type(ValueError),
        "wait": wait_none(),
        "reraise": False,
    }
    with pytest.raises(tenacity.RetryError):
        transient_retry(**given)(send)()
    assert send.attempts == 2


def test_the_function_keeps_what_tenacity_offers_also_under_the_breaker(breaker):
    send = breaker(transient_retry(attempts=3, wait=wait_none())(failing([TimeoutError()] * 9)))
    with pytest.raises(TimeoutError):
        send()
    assert send.statistics["attempt_number"] == 3
    assert isinstance(send.retry, tenacity.Retrying)
    assert breaker.snapshot().failures == 1
    assert send.retry_with(stop=stop_after_attempt(9))() == "sent"


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"attempts": 0}, ValueError, "attempts must be a whole number of at least 1, got 0"),
        ({"attempts": "5"}, TypeError, "attempts must be a whole number of at least 1, got '5'"),
        ({"count_per": "day"}, ValueError, "count_per must be 'call' or 'attempt', got 'day'"),
        ({"budget": 0.2}, TypeError, "budget must be a RetryBudget, got float"),
    ],
)
def test_a_wrong_setting_is_named(wrong, error, says):
    with pytest.raises(error, match=says):
        transient_retry(**wrong)


def test_an_unknown_option_is_refused_when_decorating():
    with pytest.raises(TypeError, match="patience"):
        transient_retry(patience=3)(failing([]))


async def test_what_cannot_be_retried_is_refused_when_decorating():
    async def pages():
        yield 1

    with pytest.raises(TypeError, match=r"@transient_retry cannot decorate the generator"):
        transient_retry()(pages)
    with pytest.raises(TypeError, match=r"@transient_retry decorates a function, got int"):
        transient_retry()(7)


# What is worth another attempt


def status(number):
    return SimpleNamespace(status=number)


class SdkError(Exception):
    """Like the Genesys SDK's ApiException."""

    def __init__(self, status, headers=None):
        self.status, self.headers = status, headers


def raised_from(cause):
    error = ValueError("mine")
    error.__cause__ = cause
    return error


def httpx_error(number, headers=()):
    request = httpx.Request("GET", "http://x")
    response = httpx.Response(number, headers=dict(headers), request=request)
    return httpx.HTTPStatusError("no", request=request, response=response)


def requests_error(number, headers=()):
    response = requests.Response()
    response.status_code = number
    response.headers.update(headers)
    return requests.HTTPError(response=response)


TRANSIENT = [
    TimeoutError(),
    ConnectionResetError(),
    aiohttp.ServerDisconnectedError(),
    httpx.ReadTimeout("slow"),
    requests.ConnectionError(),
    SdkError(0),
    *(SdkError(number) for number in (408, 429, 500, 502, 503, 504)),
    httpx_error(429),
    requests_error(408),
    raised_from(SdkError(429)),
    raised_from(TimeoutError()),
    ExceptionGroup("both", [ValueError(), TimeoutError()]),
]
FINAL = [
    *(SdkError(number) for number in (400, 401, 403, 404, 409, 410, 422, 425)),
    ValueError(),
    CircuitBreakerOpenError(EU, OPEN),
    raised_from(CircuitBreakerOpenError(EU, OPEN)),
    asyncio.CancelledError(),
    KeyboardInterrupt(),
    GeneratorExit(),
    BaseExceptionGroup("both", [asyncio.CancelledError(), TimeoutError()]),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_what_passes_is_worth_another_attempt(error):
    assert is_transient(error)
    assert is_transient(state_of(error))


@pytest.mark.parametrize("error", FINAL, ids=repr)
def test_what_stays_is_not(error):
    assert not is_transient(error)
    assert not is_transient(state_of(error))


def test_a_success_and_no_outcome_at_all_are_not():
    assert not is_transient(state_of("sent"))
    assert not is_transient(RetryCallState(tenacity.Retrying(), None, (), {}))


def test_it_goes_together_with_tenacitys_conditions():
    either = is_transient | retry_if_exception_type(ValueError)
    assert either(state_of(ValueError()))
    assert either(state_of(TimeoutError()))
    assert not either(state_of(KeyError()))


@pytest.mark.parametrize("error", [SdkError(404), CircuitBreakerOpenError(EU, OPEN), KeyError()])
def test_a_final_error_is_raised_after_one_attempt(error):
    send = failing([error] * 3)
    with pytest.raises(type(error)) as caught:
        transient_retry(wait=NEVER)(send)()
    assert caught.value is error
    assert send.attempts == 1


def test_retry_outside_the_breaker_never_retries_a_rejection(breaker):
    breaker.force_open("maintenance")
    send = transient_retry(wait=NEVER)(breaker(failing([])))
    with pytest.raises(CircuitBreakerOpenError):
        send()
    assert breaker.snapshot().rejected == 1


async def test_a_429_never_moves_the_circuit(breaker):
    send = failing([SdkError(429)] * 100)
    protected = breaker(transient_retry(wait=wait_none())(send))
    for _ in range(20):
        with pytest.raises(SdkError):
            protected()
    assert send.attempts == 100
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.streak, snapshot.ignored) == ("CLOSED", 0, 20)


# Retry-After


def asked(value, name="Retry-After"):
    return SdkError(429, {name: value})


WAIT = wait_retry_after(wait_fixed(7))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("1", 1), ("60", 60), (" 3 ", 3), ("1.5", 1.5), (4, 4)],
)
def test_it_waits_the_seconds_that_the_server_asked_for(text, seconds):
    assert WAIT(state_of(asked(text))) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "-1",
        "NaN",
        "inf",
        "1e3",
        "1_0",
        "٣",
        "0x10",
        "1, 2",
        None,
        "Mon, 99 Foo",
        "\x00",
    ],
)
def test_nonsense_falls_back(text):
    assert WAIT(state_of(asked(text))) == 7


@pytest.mark.parametrize(
    "error",
    [
        asked("3"),
        asked("3", "retry-after"),
        httpx_error(503, {"Retry-After": "3"}),
        requests_error(503, {"retry-after": "3"}),
        raised_from(asked("3")),
        status(503).__class__(headers={"RETRY-AFTER": "3"}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_it_finds_the_header_in_what_the_clients_raise_and_return(error):
    assert WAIT(state_of(error)) == 3


def test_it_finds_the_header_in_aiohttps_error(http_error):
    error = http_error(429)
    error.headers = {**error.headers, "Retry-After": "3"}
    assert WAIT(state_of(error)) == 3
    assert WAIT(state_of(http_error(429))) == 7


class StrangeError(Exception):
    """Its headers are nobody's idea of headers."""

    @property
    def headers(self):
        raise RuntimeError

    response = SimpleNamespace(headers=7)


@pytest.mark.parametrize("outcome", [StrangeError(), TimeoutError(), "a result"], ids=repr)
def test_it_falls_back_where_there_is_no_header(outcome):
    assert WAIT(state_of(outcome)) == 7


def test_it_falls_back_before_there_is_an_outcome():
    assert WAIT(RetryCallState(tenacity.Retrying(), None, (), {})) == 7


NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        (format_datetime(NOW + timedelta(seconds=20), usegmt=True), 20),
        (format_datetime(NOW + timedelta(seconds=20)), 20),
        ("Thursday, 01-Jan-26 12:00:20 GMT", 20),
        (format_datetime(NOW, usegmt=True), 7),
        (format_datetime(NOW - timedelta(seconds=20), usegmt=True), 7),
        ("Thu, 01 Jan 2026 12:00:20 -0000", 7),
    ],
)
def test_it_waits_until_the_date_that_the_server_named(date, seconds):
    with freeze_time(NOW):
        assert WAIT(state_of(asked(date))) == seconds


@pytest.mark.parametrize("text", ["61", "9" * 400, format_datetime(NOW.replace(year=9999))])
def test_longer_than_the_maximum_ends_the_loop_at_once_and_says_so(text):
    error = asked(text)
    send = failing([error] * 3)
    with pytest.raises(SdkError) as caught:
        transient_retry(wait=wait_retry_after(NEVER))(send)()
    assert caught.value is error
    assert send.attempts == 1
    (note,) = error.__notes__
    assert note.startswith("gave up: Retry-After asks for ")
    assert "at most 60 s are waited" in note


def test_longer_than_the_maximum_in_a_result_is_a_retry_error():
    answer = SimpleNamespace(headers={"Retry-After": "3600"})
    loop = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda _: True), wait=wait_retry_after(NEVER)
    )
    with pytest.raises(tenacity.RetryError) as caught:
        loop(lambda: answer)
    assert "3600 s" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((7,), TypeError, "fallback must be a callable"),
        ((wait_none(), "60"), TypeError, "maximum must be a finite number of seconds"),
        ((wait_none(), 0), ValueError, "maximum must be a finite number of seconds"),
        ((wait_none(), math.inf), ValueError, "maximum must be a finite number of seconds"),
    ],
)
def test_a_wrong_wait_is_named(arguments, error, says):
    with pytest.raises(error, match=says):
        wait_retry_after(*arguments)


def test_the_preset_waits_as_the_server_asked(breaker):
    slept = []
    send = breaker(transient_retry(sleep=slept.append)(failing([asked("3"), asked("60")])))
    assert send() == "sent"
    assert slept == [3, 60]


# What the circuit counts


def streak_after(breaker, errors, **settings):
    send = breaker(transient_retry(wait=wait_none(), **settings)(failing(errors)))
    try:
        send()
    except Exception as error:
        return breaker.snapshot().streak, type(error)
    return breaker.snapshot().streak, None


@pytest.mark.parametrize(
    ("errors", "per_call", "per_attempt"),
    [
        ([TimeoutError()] * 5, 1, 5),
        ([TimeoutError()] * 2, 0, 0),
        ([SdkError(429)] * 5, 0, 0),
        ([TimeoutError(), SdkError(429), TimeoutError(), KeyError()], 0, 2),
        ([TimeoutError(), SdkError(404)], 0, 1),
    ],
)
def test_one_outcome_per_call_or_one_per_failed_attempt(clock, errors, per_call, per_attempt):
    by_call, by_attempt = (CircuitBreaker(EU, clock=clock) for _ in range(2))
    assert streak_after(by_call, errors)[0] == per_call
    assert streak_after(by_attempt, errors, count_per="attempt")[0] == per_attempt


def test_a_final_failure_that_is_not_retried_counts_once(breaker):
    errors = [TimeoutError(), ConnectionResetError()]
    only_timeouts = retry_if_exception_type(TimeoutError)
    streak, error = streak_after(breaker, errors, count_per="attempt", retry=only_timeouts)
    assert error is ConnectionResetError
    assert streak == 2


def test_ten_failed_attempts_open_the_circuit_in_the_middle_of_a_call(breaker):
    send = failing([TimeoutError()] * 50)
    protected = breaker(transient_retry(wait=wait_none(), count_per="attempt")(send))
    for _ in range(2):
        with pytest.raises(TimeoutError):
            protected()
    assert send.attempts == 10
    assert breaker.snapshot().failures == 10
    with pytest.raises(CircuitBreakerOpenError):
        protected()


def test_the_attempt_that_opens_the_circuit_is_the_last(clock):
    breaker = CircuitBreaker(EU, BreakerPolicy(failure_threshold=3), clock=clock)
    send = failing([TimeoutError()] * 50)
    with pytest.raises(TimeoutError):
        breaker(transient_retry(wait=NEVER.__class__(0), count_per="attempt")(send))()
    assert send.attempts == 3
    assert breaker.state is OPEN


def test_a_failed_probe_opens_again_whatever_counts(clock):
    breaker = CircuitBreaker(EU, BreakerPolicy(failure_threshold=1), clock=clock)
    send = failing([TimeoutError()] * 50)
    protected = breaker(transient_retry(wait=NEVER, count_per="attempt")(send))
    with pytest.raises(TimeoutError):
        protected()
    clock.advance(60)
    with pytest.raises(TimeoutError):
        protected()
    assert send.attempts == 2
    assert breaker.snapshot().failures == 2
    assert breaker.retry_after == 60


def test_the_classifier_of_the_circuit_decides_which_attempts_count(clock):
    def classify(error):
        return Outcome.FAILURE if isinstance(error, KeyError) else classify_error(error)

    breaker = CircuitBreaker(EU, classifier=classify, clock=clock)
    retries = {"retry": is_transient | retry_if_exception_type(KeyError), "count_per": "attempt"}
    assert streak_after(breaker, [KeyError()] * 5, **retries) == (5, KeyError)


def test_a_result_that_is_not_wanted_is_no_failed_attempt(breaker):
    send = breaker(
        transient_retry(
            retry=tenacity.retry_if_result(lambda _: True),
            wait=wait_none(),
            count_per="attempt",
            retry_error_callback=lambda _: "given up",
        )(failing([]))
    )
    assert send() == "given up"
    assert breaker.snapshot().streak == 0


def test_attempts_outside_a_protected_call_are_counted_by_nobody():
    send = failing([TimeoutError()] * 5)
    with pytest.raises(TimeoutError):
        transient_retry(wait=wait_none(), count_per="attempt", budget=RetryBudget())(send)()
    assert send.attempts == 5


# The budget


def spend(breaker, budget, calls, attempts=5):
    send = failing([TimeoutError()] * 10_000)
    policy = {"attempts": attempts, "wait": wait_none(), "budget": budget}
    protected = breaker(transient_retry(**policy)(send))
    for _ in range(calls):
        with pytest.raises(TimeoutError):
            protected()
    return send.attempts - calls


@pytest.fixture
def patient(clock):
    return CircuitBreaker(EU, BreakerPolicy(failure_threshold=100_000), clock=clock)


def test_retries_are_at_most_that_share_of_the_calls(patient):
    assert spend(patient, RetryBudget(0.2, minimum_per_second=0), calls=100) == 20


def test_some_retries_a_second_are_always_there(patient):
    assert spend(patient, RetryBudget(0, minimum_per_second=0.7, window=10), calls=100) == 7


def test_the_default_budget_is_a_fifth_and_one_a_second(patient):
    assert spend(patient, RetryBudget(), calls=1000) == 10 + 200


def test_what_is_older_than_the_window_is_forgotten(patient, clock):
    budget = RetryBudget(0, minimum_per_second=0.5, window=10)
    assert spend(patient, budget, calls=10) == 5
    clock.advance(9)
    assert spend(patient, budget, calls=10) == 0
    clock.advance(1)
    assert spend(patient, budget, calls=10) == 5


def test_a_clock_that_steps_back_leaves_nobody_without_retries(patient, clock):
    clock.advance(1000)
    budget = RetryBudget(0, minimum_per_second=0.5)
    assert spend(patient, budget, calls=10) == 5
    clock.advance(-500)
    assert spend(patient, budget, calls=10) == 5


def test_each_region_has_an_account_that_all_its_loops_share(clock):
    budget = RetryBudget(0, minimum_per_second=0.5)
    policy = BreakerPolicy(failure_threshold=1000)
    one, other = (CircuitBreaker(name, policy, clock=clock) for name in ("one", "other"))
    assert [spend(one, budget, calls=10), spend(one, budget, calls=10)] == [5, 0]
    assert spend(other, budget, calls=10) == 5


def test_only_the_first_attempt_is_a_call(patient):
    budget = RetryBudget(1, minimum_per_second=0)
    assert spend(patient, budget, calls=10, attempts=100) == 10


def test_a_loop_that_ends_anyway_takes_nothing_out(patient):
    budget = RetryBudget(0, minimum_per_second=0.5)
    assert spend(patient, budget, calls=10, attempts=1) == 0
    assert spend(patient, budget, calls=10) == 5


def test_the_accounts_go_with_their_circuits(clock):
    budget = RetryBudget()
    spend(CircuitBreaker(EU, clock=clock), budget, calls=1)
    gc.collect()
    assert len(budget._accounts) == 0


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"ratio": -0.1}, ValueError, "ratio must be a finite number of at least 0, got -0.1"),
        ({"ratio": "all"}, TypeError, "ratio must be a finite number of at least 0, got 'all'"),
        ({"ratio": True}, TypeError, "ratio must be a finite number of at least 0, got True"),
        ({"minimum_per_second": math.nan}, ValueError, "minimum_per_second must be .* got nan"),
        ({"minimum_per_second": math.inf}, ValueError, "minimum_per_second must be .* got inf"),
        ({"window": 0}, ValueError, "window must be a finite number of seconds > 0, got 0"),
    ],
)
def test_a_wrong_budget_is_named(wrong, error, says):
    with pytest.raises(error, match=says):
        RetryBudget(**wrong)


# Retry outside the breaker, for those who would rather wait


def test_waiting_until_ready_waits_as_the_rejection_says():
    wait = wait_until_ready(wait_fixed(7))
    assert wait(state_of(CircuitBreakerOpenError(EU, OPEN, retry_after=42))) == 42
    assert wait(state_of(CircuitBreakerOpenError(EU, OPEN, retry_after=0.0))) == 0
    assert wait(state_of(CircuitBreakerOpenError(EU, OPEN))) == 7, "forced open: nobody knows"
    assert wait(state_of(TimeoutError())) == 7
    assert wait(state_of("sent")) == 7


def test_waiting_until_ready_needs_a_fallback():
    with pytest.raises(TypeError, match="fallback must be a callable"):
        wait_until_ready(7)


def test_a_background_job_waits_for_the_next_probe(clock):
    breaker = CircuitBreaker(EU, BreakerPolicy(failure_threshold=1), clock=clock)
    rejected = retry_if_exception_type(CircuitBreakerOpenError)
    send = failing([TimeoutError(), TimeoutError()])
    job = transient_retry(
        retry=is_transient | rejected,
        wait=wait_until_ready(wait_fixed(1)),
        stop=tenacity.stop_never,
        sleep=clock.advance,
    )(breaker(send))
    assert job() == "sent"
    assert send.attempts == 3
    # Each failure is followed by 1 s of backoff, and by what is left of the recovery timeout.
    assert clock() == 2 * 60


async def test_what_is_exported_is_what_the_design_names():
    import resilience.retry  # noqa: PLC0415

    names = {RetryBudget, gate, is_transient, stop_unless_closed, transient_retry}
    names |= {wait_retry_after, wait_until_ready}
    assert {getattr(resilience.retry, name) for name in resilience.retry.__all__} == names
    assert region_breaker
