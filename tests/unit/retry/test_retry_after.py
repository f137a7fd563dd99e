"""How long a loop waits: as the server asks, or until the circuit is due."""

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
import tenacity
from freezegun import freeze_time
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_fixed, wait_none

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerOpenError, CircuitState
from resilience.retry import gate, is_transient, transient_retry, wait_retry_after, wait_until_ready
from tests.support.client_errors import caused_by, each_client
from tests.support.driving import ServerError
from tests.support.retrying import AN_HOUR, Backend, Sleeps, state_after

# Seconds


def wait_for(value, client=ServerError, status=429, maximum=60.0):
    wait = wait_retry_after(wait_fixed(3.25), maximum=maximum)
    return wait(state_after(client(status, headers={"Retry-After": value})))


@each_client
@pytest.mark.parametrize("status", [429, 503])
def test_what_the_server_asks_for_is_waited(client, status):
    assert wait_for("7", client, status) == 7


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0), ("1", 1), ("60", 60), (" 7 ", 7), ("1.5", 1.5), (4, 4)],
)
def test_seconds_are_waited(value, seconds):
    assert wait_for(value) == seconds


@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER"])
def test_the_spelling_of_the_header_does_not_matter(name):
    wait = wait_retry_after(wait_fixed(3.25))
    assert wait(state_after(ServerError(429, headers={name: "7"}))) == 7


def test_the_header_is_found_in_a_cause_and_in_a_result():
    wait = wait_retry_after(wait_fixed(3.25))
    assert wait(state_after(caused_by(ServerError(429, {"Retry-After": "7"})))) == 7
    assert wait(state_after(result=SimpleNamespace(headers={"RETRY-AFTER": "7"}))) == 7


# Dates


DATE = "Tue, 24 Nov 2026 12:00:30 GMT"


NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@freeze_time(NOW)
@pytest.mark.parametrize(
    "value",
    [
        DATE,
        "Tuesday, 24-Nov-26 12:00:30 GMT",
        "24 Nov 2026 12:00:30 GMT",
        format_datetime(NOW + timedelta(seconds=30)),
    ],
)
def test_an_http_date_is_waited_for(value):
    assert wait_for(value) == 30


@freeze_time(NOW)
@each_client
def test_an_http_date_of_every_client_is_waited_for(client):
    assert wait_for(DATE, client) == 30


@freeze_time(NOW)
@pytest.mark.parametrize(
    "value",
    [
        format_datetime(NOW, usegmt=True),
        format_datetime(NOW - timedelta(seconds=20), usegmt=True),
        "Tue, 24 Nov 2026 12:00:30 -0000",  # of an unknown time zone
    ],
)
def test_a_date_that_is_over_or_nowhere_falls_back(value):
    assert wait_for(value) == 3.25


# Nothing usable


NONSENSE = [
    "",
    " ",
    "soon",
    "-1",
    "-0.5",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "\N{SUPERSCRIPT TWO}",
    "1_0",
    "\N{ARABIC-INDIC DIGIT THREE}",
    "1e3",
    "0x10",
    "7 seconds",
    "7,8",
    "1, 2",
    "Mon, 99 Foo",
    "Tue, 99 Nov 2026 12:00:30 GMT",
    "Tue, 24 Nov 99999 12:00:30 GMT",
    "Tue, 24 Nov 2026 99:00:30 GMT",
    "Tue, 24 Foo 2026 12:00:30 GMT",
    "\x00",
    "GMT",
]


@pytest.mark.parametrize("value", NONSENSE, ids=ascii)
def test_nonsense_falls_back(value):
    assert wait_for(value) == 3.25


@pytest.mark.parametrize(
    "value",
    [None, math.nan, -1, [], object(), b"\xff"],
    ids=lambda value: type(value).__name__,
)
def test_a_header_that_is_not_a_string_falls_back(value):
    assert wait_for(value) == 3.25


@pytest.mark.parametrize("headers", [None, {}, "Retry-After: 7", 7, [("X", "7")]], ids=repr)
def test_headers_that_are_none_fall_back(headers):
    wait = wait_retry_after(wait_fixed(3.25))
    assert wait(state_after(ServerError(429, headers=headers))) == 3.25


@pytest.mark.parametrize("error", [TimeoutError(), KeyError(), ServerError(503)], ids=repr)
def test_without_the_header_it_falls_back(error):
    assert wait_retry_after(wait_fixed(3.25))(state_after(error)) == 3.25


def test_after_an_unwanted_result_it_falls_back():
    assert wait_retry_after(wait_fixed(3.25))(state_after(result="sent")) == 3.25


def test_it_falls_back_before_there_is_an_outcome():
    assert wait_retry_after(wait_fixed(3.25))(RetryCallState(Retrying(), None, (), {})) == 3.25


class OddError(Exception):
    """Has headers that raise, and a response with headers that are a number."""

    status, response = 429, SimpleNamespace(headers=7)

    @property
    def headers(self):
        raise RuntimeError


def test_headers_that_raise_fall_back():
    assert wait_retry_after(wait_fixed(3.25))(state_after(OddError())) == 3.25


# Longer than the maximum


@pytest.mark.parametrize(
    "value", ["9" * 30, "9" * 5000, "61", "120", format_datetime(NOW.replace(year=9999))], ids=len
)
async def test_longer_than_the_maximum_gives_up_immediately_with_a_note(value):
    backend, sleeps = Backend(default=lambda: ServerError(429, {"Retry-After": value})), Sleeps()
    with pytest.raises(ServerError) as caught:
        await transient_retry(sleep=sleeps)(backend.send)()
    assert (backend.attempts, sleeps) == (1, [])
    (note,) = caught.value.__notes__
    assert note.startswith("gave up: Retry-After asks for ")
    assert "the longest wait is 60 s" in note
    assert "\n" not in note
    assert len(note) < 300


def test_longer_than_the_maximum_ends_a_plain_loop_too():
    backend, sleeps = Backend(default=lambda: ServerError(429, {"Retry-After": "120"})), Sleeps()
    with pytest.raises(ServerError) as caught:
        transient_retry(sleep=sleeps.plain)(backend.send_plain)()
    assert (backend.attempts, sleeps) == (1, [])
    assert "120" in caught.value.__notes__[0]


async def test_longer_than_the_maximum_ends_a_gated_loop_of_the_user_too():
    backend, sleeps = Backend(default=lambda: ServerError(429, {"Retry-After": "120"})), Sleeps()
    send = gate(
        tenacity.retry(wait=wait_retry_after(wait_none()), retry=is_transient, sleep=sleeps)(
            backend.send
        )
    )
    with pytest.raises(ServerError) as caught:
        await send()
    assert (backend.attempts, sleeps) == (1, [])
    assert "120" in caught.value.__notes__[0]


def test_longer_than_the_maximum_in_a_result_is_a_retry_error():
    answer = SimpleNamespace(headers={"Retry-After": "3600"})
    loop = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda _: True), wait=wait_retry_after(AN_HOUR)
    )
    with pytest.raises(tenacity.RetryError) as caught:
        loop(lambda: answer)
    assert "3600 s" in caught.value.__notes__[0]


async def test_a_maximum_of_its_own_counts():
    backend, sleeps = Backend(default=lambda: ServerError(429, {"Retry-After": "120"})), Sleeps()
    wait = wait_retry_after(wait_none(), maximum=120)
    with pytest.raises(ServerError) as caught:
        await transient_retry(sleep=sleeps, wait=wait)(backend.send)()
    assert (backend.attempts, sleeps) == (5, [120] * 4)
    assert not hasattr(caught.value, "__notes__")


async def test_the_preset_waits_what_the_server_asks_for():
    backend, sleeps = Backend(ServerError(429, {"Retry-After": "17"}), default=None), Sleeps()
    assert await transient_retry(sleep=sleeps)(backend.send)() == "sent"
    assert sleeps == [17]


def test_the_preset_waits_it_in_a_protected_call_too(clock):
    sleeps = Sleeps()
    errors = [ServerError(429, {"Retry-After": seconds}) for seconds in ("3", "60")]
    backend = Backend(*errors, default=None)
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    assert breaker(transient_retry(sleep=sleeps.plain)(backend.send_plain))() == "sent"
    assert sleeps == [3, 60]


def test_what_is_waited_can_be_combined():
    wait = wait_retry_after(wait_none()) + wait_fixed(2)
    assert wait(state_after(ServerError(429, {"Retry-After": "7"}))) == 9


# Outside the breaker: until it is due


def rejection(retry_after):
    return CircuitBreakerOpenError("eu-west-1", CircuitState.OPEN, "TimeoutError", retry_after)


@pytest.mark.parametrize("seconds", [42.0, 0.0])
def test_after_a_rejection_it_waits_until_the_circuit_is_due(seconds):
    assert wait_until_ready(wait_fixed(3.25))(state_after(rejection(seconds))) == seconds


def test_after_a_rejection_without_an_end_it_falls_back():
    assert wait_until_ready(wait_fixed(3.25))(state_after(rejection(None))) == 3.25


@pytest.mark.parametrize("error", [TimeoutError(), ServerError(), KeyError()], ids=repr)
def test_after_anything_else_it_falls_back(error):
    assert wait_until_ready(wait_fixed(3.25))(state_after(error)) == 3.25


def test_after_a_result_it_falls_back():
    assert wait_until_ready(wait_fixed(3.25))(state_after(result="sent")) == 3.25


async def test_retries_outside_wait_for_the_next_probe(clock):
    policy = BreakerPolicy(failure_threshold=1, success_threshold=1)
    breaker = CircuitBreaker("eu-west-1", policy, clock=clock)
    backend = Backend(ServerError(), default=None)

    async def sleep(seconds):
        clock.advance(seconds)

    send = transient_retry(
        sleep=sleep,
        wait=wait_until_ready(wait_none()),
        retry=is_transient | retry_if_exception_type(CircuitBreakerOpenError),
    )(breaker(backend.send))
    assert await send() == "sent"
    assert (backend.attempts, breaker.snapshot().rejected) == (2, 1)
    assert breaker.state is CircuitState.CLOSED


def test_a_background_job_waits_for_the_next_probe(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    rejected = retry_if_exception_type(CircuitBreakerOpenError)
    backend = Backend(TimeoutError(), TimeoutError(), default=None)
    job = transient_retry(
        retry=is_transient | rejected,
        wait=wait_until_ready(wait_fixed(1)),
        stop=tenacity.stop_never,
        sleep=clock.advance,
    )(breaker(backend.send_plain))
    assert job() == "sent"
    assert backend.attempts == 3
    # Each failure is followed by 1 s of backoff, and by what is left of the recovery timeout.
    assert clock() == 2 * 60


async def test_retries_outside_do_not_retry_a_rejection(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=2), clock=clock)
    backend = Backend()
    with pytest.raises(CircuitBreakerOpenError):
        await transient_retry(wait=wait_none())(breaker(backend.send))()
    assert (backend.attempts, breaker.snapshot().rejected) == (2, 1)


# Wrong arguments


@pytest.mark.parametrize("value", [-1, math.nan, "1", True])
def test_a_wrong_maximum_is_named(value):
    with pytest.raises((TypeError, ValueError), match="maximum"):
        wait_retry_after(wait_none(), maximum=value)


@pytest.mark.parametrize("make", [wait_retry_after, wait_until_ready])
def test_a_wrong_fallback_is_named(make):
    with pytest.raises(TypeError, match="fallback"):
        make("soon")


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((7,), TypeError, "fallback must be a callable"),
        ((wait_none(), "60"), TypeError, "maximum must be a finite number of seconds"),
        ((wait_none(), 0), ValueError, "maximum must be a finite number of seconds"),
        ((wait_none(), math.inf), ValueError, "maximum must be a finite number of seconds"),
    ],
)
def test_what_is_wrong_with_a_wait_is_named(arguments, error, says):
    with pytest.raises(error, match=says):
        wait_retry_after(*arguments)


def test_before_the_first_attempt_the_fallback_says_how_long():
    state = RetryCallState(Retrying(), None, (), {})
    assert wait_retry_after(wait_fixed(3.25))(state) == 3.25
