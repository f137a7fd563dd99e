"""How long a loop waits: at least as long as the server asks, or until the circuit is due."""

import asyncio
import math
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from types import SimpleNamespace

import pytest
import tenacity
from freezegun import freeze_time
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_fixed, wait_none

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerOpenError, CircuitState
from resilience.answers import requested_delay
from resilience.retry import gate, is_transient, transient_retry, wait_retry_after, wait_until_ready
from resilience.testing import FakeClock, run_in_virtual_time
from tests.support.client_errors import caused_by, each_client
from tests.support.driving import ServerError
from tests.support.retrying import AN_HOUR, Backend, Sleeps, state_after

# The request and the loop's own backoff


def wait_for(value, client=ServerError, status=429, maximum=60.0):
    wait = wait_retry_after(wait_fixed(3.25), maximum=maximum)
    return wait(state_after(client(status, headers={"Retry-After": value})))


def draws(own, value, times=1000):
    wait, state = wait_retry_after(wait_fixed(own)), state_after(ServerError(429, value))
    return [wait(state) for _ in range(times)]


@pytest.mark.parametrize(
    ("own", "asked"), [(0, 2), (1, 2), (2, 2), (5, 2), (0.5, 60), (0, 0.5), (90, 60)]
)
def test_a_wait_is_the_longer_of_both_and_up_to_a_fifth_of_the_request(own, asked):
    waits = draws(own, {"Retry-After": str(asked)})
    shortest = max(own, asked)
    assert shortest <= min(waits) < shortest + 0.02 * asked
    assert shortest + 0.18 * asked < max(waits) <= shortest + 0.2 * asked


def test_what_is_added_is_spread_evenly():
    waits = draws(0, {"Retry-After": "10"}, times=4000)
    halves = sum(wait < 11 for wait in waits)
    assert 1700 < halves < 2300  # nine standard deviations


def test_a_request_of_no_delay_leaves_the_loop_its_own_backoff():
    assert set(draws(3.25, {"Retry-After": "0"})) == {3.25}


def test_without_a_request_the_backoff_is_the_loops_own():
    assert set(draws(3.25, {})) == {3.25}


def attempts_of_fifty_loops(value, attempts, **settings):
    """Return when each of fifty loops, all of which are answered alike, makes its attempts."""

    async def run_one():
        made = []

        @transient_retry(attempts=attempts, **settings)
        async def send():
            made.append(asyncio.get_running_loop().time())
            raise ServerError(503, {"Retry-After": value})

        with pytest.raises(ServerError):
            await send()
        return made

    async def run_all():
        return await asyncio.gather(*(run_one() for _ in range(50)))

    return run_in_virtual_time(run_all(), FakeClock())


def test_fifty_loops_with_the_same_answer_come_back_one_by_one():
    second = [made[1] for made in attempts_of_fifty_loops("2", attempts=2)]
    assert min(second) >= 2
    assert max(second) <= 2.4 + 1e-9
    # Fifty times are within half of that fifth once in 10^13 runs.
    assert max(second) - min(second) > 0.2


def test_fifty_loops_with_a_fixed_wait_come_back_one_by_one_too():
    second = [made[1] for made in attempts_of_fifty_loops("2", 2, wait=wait_retry_after(AN_HOUR))]
    assert min(second) >= 3600
    assert max(second) - min(second) > 0.2


def test_fifty_loops_that_are_asked_for_zero_follow_their_own_backoff():
    for made in attempts_of_fifty_loops("0", attempts=5):
        pauses = [later - earlier for earlier, later in pairwise(made)]
        # 1 s, 2 s, 4 s, 8 s, each plus up to 1 s
        assert [
            least <= pause <= least + 1 for least, pause in zip((1, 2, 4, 8), pauses, strict=True)
        ]


# Seconds


def asked(value, client=ServerError, status=429):
    """Return the delay that an answer with this `Retry-After` asks for."""
    return requested_delay(client(status, headers={"Retry-After": value}))


@each_client
@pytest.mark.parametrize("status", [429, 503, 500, 403])
def test_what_the_server_asks_for_is_found(client, status):
    assert asked("7", client, status) == 7


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("1", 1),
        ("60", 60),
        (" 7 ", 7),
        ("1.5", 1.5),
        (4, 4),
        (b"7", 7),
        ("007", 7),
        ("9" * 30, 1e30),
        ("9" * 5000, math.inf),
    ],
)
def test_seconds_are_read(value, seconds):
    assert asked(value) == seconds


@pytest.mark.parametrize("value", ["1, 20", "20,1", "7 , 20", ["1", "20"], ("20", "soon"), [b"20"]])
def test_of_several_values_the_longest_counts(value):
    assert asked(value) == 20


@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER", b"Retry-After"])
def test_the_spelling_of_the_header_does_not_matter(name):
    assert requested_delay(ServerError(429, headers={name: "7"})) == 7


def test_the_header_is_found_in_a_cause_and_in_a_result():
    wait = wait_retry_after(wait_none())
    assert 7 <= wait(state_after(caused_by(ServerError(429, {"Retry-After": "7"})))) <= 8.4
    assert 7 <= wait(state_after(result=SimpleNamespace(headers={"RETRY-AFTER": "7"}))) <= 8.4


# Dates


DATE = "Tue, 24 Nov 2026 12:00:30 GMT"


NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@freeze_time(NOW)
@pytest.mark.parametrize(
    "value",
    [
        DATE,
        "Tuesday, 24-Nov-26 12:00:30 GMT",
        "Tue Nov 24 12:00:30 2026",
        "24 Nov 2026 12:00:30 GMT",
        "Tue, 24 Nov 2026 12:00:30 -0000",
        "Tue, 24 Nov 2026 13:00:30 +0100",
        format_datetime(NOW + timedelta(seconds=30)),
    ],
)
def test_a_date_is_read(value):
    assert asked(value) == 30


@freeze_time(NOW)
@each_client
def test_a_date_of_every_client_is_read(client):
    assert asked(DATE, client) == 30


def test_a_date_without_a_zone_is_in_utc_whatever_the_zone_of_the_machine(monkeypatch):
    headers = {"Date": "Tue Nov 24 12:00:10 2026", "Retry-After": DATE}
    try:
        monkeypatch.setenv("TZ", "JST-9")
        time.tzset()
        assert requested_delay(ServerError(503, headers)) == 20
    finally:
        monkeypatch.undo()
        time.tzset()


# A clock that is off by an hour, in either direction.
@pytest.mark.parametrize("local", [NOW - timedelta(hours=1), NOW, NOW + timedelta(hours=1)])
def test_a_date_is_compared_with_the_clock_of_the_server(local):
    headers = {"Date": "Tue, 24 Nov 2026 12:00:10 GMT", "Retry-After": DATE}
    with freeze_time(local):
        assert requested_delay(ServerError(503, headers)) == 20


@freeze_time(NOW)
@pytest.mark.parametrize("date", ["", "now", "99", "Tue, 99 Nov 2026 12:00:10 GMT", None, b"\xff"])
def test_a_clock_of_the_server_that_makes_no_sense_is_passed_over(date):
    assert requested_delay(ServerError(503, {"Date": date, "Retry-After": DATE})) == 30


@freeze_time(NOW)
def test_of_several_dates_the_last_counts():
    dates = [format_datetime(NOW + timedelta(seconds=20), usegmt=True), DATE]
    assert asked(dates) == asked(dates[::-1]) == 30


@freeze_time(NOW)
@pytest.mark.parametrize(
    "value",
    [
        format_datetime(NOW, usegmt=True),
        format_datetime(NOW - timedelta(seconds=20), usegmt=True),
        format_datetime(NOW.replace(year=1970), usegmt=True),
    ],
)
def test_a_date_that_is_over_falls_back(value):
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
    "7,",
    "7, soon",
    "1;2",
    "7" * 10_000,
    "+7",
    "0x7",
    "7\n8",
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
    [None, math.nan, math.inf, -1, [], {}, object(), b"\xff", ["soon"], True],
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
    assert backend.attempts == 5
    assert all(120 <= seconds <= 144 for seconds in sleeps)
    assert not hasattr(caught.value, "__notes__")


async def test_the_preset_waits_what_the_server_asks_for():
    backend, sleeps = Backend(ServerError(429, {"Retry-After": "17"}), default=None), Sleeps()
    assert await transient_retry(sleep=sleeps)(backend.send)() == "sent"
    (seconds,) = sleeps
    assert 17 <= seconds <= 17 * 1.2


def test_the_preset_waits_it_in_a_protected_call_too(clock):
    sleeps = Sleeps()
    errors = [ServerError(429, {"Retry-After": seconds}) for seconds in ("3", "60")]
    backend = Backend(*errors, default=None)
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    assert breaker(transient_retry(sleep=sleeps.plain)(backend.send_plain))() == "sent"
    assert 3 <= sleeps[0] <= 3.6
    assert 60 <= sleeps[1] <= 72


def test_what_is_waited_can_be_combined():
    wait = wait_retry_after(wait_none()) + wait_fixed(2)
    assert 9 <= wait(state_after(ServerError(429, {"Retry-After": "7"}))) <= 10.4


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
