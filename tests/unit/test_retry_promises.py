"""transient_retry and what it is made of: what is retried, how long it waits, how often."""

import asyncio
import inspect
import math
import subprocess
import sys

import aiohttp
import httpx
import pytest
import requests
import tenacity
from freezegun import freeze_time
from multidict import CIMultiDict, CIMultiDictProxy
from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_fixed,
    wait_none,
)

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitState,
)
from resilience.retry import (
    RetryBudget,
    gate,
    is_transient,
    transient_retry,
    wait_retry_after,
    wait_until_ready,
)

pytestmark = pytest.mark.timeout(45)

NEVER_TRIPS = BreakerPolicy(failure_threshold=10**9)
REQUEST = httpx.Request("POST", "http://127.0.0.1/")


class ServerError(Exception):
    def __init__(self, status=503, headers=None):
        super().__init__(status)
        self.status, self.headers = status, headers


def state_after(error=None, result=None, attempt=1):
    state = tenacity.RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempt
    if error is None:
        state.set_result(result)
    else:
        state.set_exception((type(error), error, None))
    return state


class Backend:
    def __init__(self, *errors, default=ServerError):
        self.errors, self.default, self.attempts = list(errors), default, 0

    def send_plain(self):
        self.attempts += 1
        error = self.errors.pop(0) if self.errors else self.default and self.default()
        if error:
            raise error
        return "sent"

    async def send(self):
        return self.send_plain()


class Sleeps(list):
    """Stands in for the sleep of a loop: notes how long, and does not."""

    async def __call__(self, seconds):
        self.append(seconds)

    def plain(self, seconds):
        self.append(seconds)


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


async def test_hooks_a_callback_and_an_error_class_are_tenacity_s():
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


def test_the_package_alone_imports_no_tenacity():
    script = "import sys, resilience; print('tenacity' in sys.modules, 'aiohttp' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


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


@pytest.mark.parametrize("name", ["wait", "retry", "stop"])
def test_a_wrong_strategy_is_named(name):
    with pytest.raises(TypeError, match=name):
        transient_retry(**{name: "soon"})(Backend().send)


def test_an_unknown_argument_is_named():
    with pytest.raises(TypeError, match="atempts"):
        transient_retry(atempts=5)(Backend().send)


@pytest.mark.parametrize("name", ["ratio", "minimum_per_second", "window"])
@pytest.mark.parametrize("value", [-1, math.nan, "1", None, True])
def test_a_wrong_number_of_a_budget_is_named(name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        RetryBudget(**{name: value})


@pytest.mark.parametrize("value", [0, math.inf])
def test_a_wrong_window_of_a_budget_is_named(value):
    with pytest.raises(ValueError, match="window"):
        RetryBudget(window=value)


@pytest.mark.parametrize("value", [-1, math.nan, "1", True])
def test_a_wrong_maximum_is_named(value):
    with pytest.raises((TypeError, ValueError), match="maximum"):
        wait_retry_after(wait_none(), maximum=value)


@pytest.mark.parametrize("make", [wait_retry_after, wait_until_ready])
def test_a_wrong_fallback_is_named(make):
    with pytest.raises(TypeError, match="fallback"):
        make("soon")


@pytest.mark.parametrize("target", ["send", None, 7, tenacity.stop_never.__class__])
def test_gate_says_what_it_takes(target):
    with pytest.raises(TypeError, match="gate"):
        gate(target)


def test_the_decorator_refuses_what_is_no_function():
    with pytest.raises(TypeError):
        transient_retry()("send")


# is_transient


def aiohttp_error(status, headers=None):
    info = aiohttp.RequestInfo("http://127.0.0.1/", "POST", CIMultiDictProxy(CIMultiDict()), "")
    headers = CIMultiDictProxy(CIMultiDict(headers or {}))
    return aiohttp.ClientResponseError(info, (), status=status, headers=headers)


def httpx_error(status, headers=None):
    response = httpx.Response(status, headers=headers, request=REQUEST)
    return httpx.HTTPStatusError("", request=REQUEST, response=response)


def requests_error(status, headers=None):
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers or {})
    return requests.HTTPError(response=response)


CLIENTS = {
    "aiohttp": aiohttp_error,
    "httpx": httpx_error,
    "requests": requests_error,
    "sdk": ServerError,
}


def caused_by(cause):
    try:
        raise RuntimeError from cause
    except RuntimeError as error:
        return error


each_client = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)


@each_client
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_server_errors_408_and_429_are_transient(client, status):
    assert is_transient(client(status)) is True
    assert is_transient(state_after(client(status))) is True


@each_client
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 499])
def test_no_other_4xx_is_transient(client, status):
    assert is_transient(client(status)) is False
    assert is_transient(state_after(client(status))) is False


TRANSIENT = [
    TimeoutError(),
    ConnectionResetError(),
    ConnectionRefusedError(),
    aiohttp.ServerDisconnectedError(),
    aiohttp.ClientPayloadError(),
    aiohttp.ServerTimeoutError(),
    httpx.ConnectError(""),
    httpx.ReadTimeout(""),
    httpx.RemoteProtocolError(""),
    requests.ConnectionError(),
    requests.ReadTimeout(),
    ServerError(0),
    caused_by(TimeoutError()),
    caused_by(ServerError(429)),
    caused_by(ServerError(408)),
    ExceptionGroup("", [KeyError(), TimeoutError()]),
]
NOT_TRANSIENT = [
    KeyError(),
    ValueError(),
    OSError(24, "too many open files"),
    FileNotFoundError(),
    asyncio.CancelledError(),
    KeyboardInterrupt(),
    SystemExit(),
    GeneratorExit(),
    CircuitBreakerOpenError("eu-west-1", CircuitState.OPEN, "TimeoutError", 60.0),
    caused_by(CircuitBreakerOpenError("eu-west-1", CircuitState.OPEN, "TimeoutError", 60.0)),
    caused_by(ServerError(404)),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_what_is_a_failure_is_transient(error):
    assert is_transient(error) is True
    assert is_transient(state_after(error)) is True


@pytest.mark.parametrize("error", NOT_TRANSIENT, ids=repr)
def test_all_else_is_not_transient(error):
    assert is_transient(error) is False
    assert is_transient(state_after(error)) is False


def test_a_rejection_raised_from_a_failure_is_not_transient():
    error = CircuitBreakerOpenError("eu-west-1", CircuitState.OPEN, "TimeoutError", 60.0)
    error.__cause__ = TimeoutError()
    assert is_transient(error) is False


def test_a_result_is_not_transient():
    assert is_transient(state_after(result=ServerError())) is False


def test_what_is_transient_can_be_combined():
    also = is_transient | retry_if_exception_type(KeyError)
    other_way = retry_if_exception_type(KeyError) | is_transient
    both = is_transient & retry_if_exception_type(ServerError)
    for either in (also, other_way):
        assert either(state_after(KeyError()))
        assert either(state_after(ServerError()))
        assert not either(state_after(ValueError()))
    assert both(state_after(ServerError()))
    assert not both(state_after(TimeoutError()))


@pytest.mark.parametrize("error", [ServerError(401), ServerError(404), KeyError()], ids=repr)
async def test_what_is_not_transient_comes_out_after_one_attempt(error):
    backend = Backend(error)
    with pytest.raises(type(error)):
        await transient_retry()(backend.send)()
    assert backend.attempts == 1


# wait_retry_after


def wait_for(value, client=ServerError, status=429, maximum=60.0):
    wait = wait_retry_after(wait_fixed(3.25), maximum=maximum)
    return wait(state_after(client(status, headers={"Retry-After": value})))


@each_client
@pytest.mark.parametrize("status", [429, 503])
def test_what_the_server_asks_for_is_waited(client, status):
    assert wait_for("7", client, status) == 7


@pytest.mark.parametrize(("value", "seconds"), [("0", 0), ("1", 1), ("60", 60), (" 7 ", 7)])
def test_seconds_are_waited(value, seconds):
    assert wait_for(value) == seconds


@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER"])
def test_the_spelling_of_the_header_does_not_matter(name):
    wait = wait_retry_after(wait_fixed(3.25))
    assert wait(state_after(ServerError(429, headers={name: "7"}))) == 7


DATE = "Tue, 24 Nov 2026 12:00:30 GMT"


@freeze_time("2026-11-24 12:00:00")
@pytest.mark.parametrize(
    "value", [DATE, "Tuesday, 24-Nov-26 12:00:30 GMT", "24 Nov 2026 12:00:30 GMT"]
)
def test_an_http_date_is_waited_for(value):
    assert wait_for(value) == pytest.approx(30, abs=1)


@freeze_time("2026-11-24 12:00:00")
@each_client
def test_an_http_date_of_every_client_is_waited_for(client):
    assert wait_for(DATE, client) == pytest.approx(30, abs=1)


@freeze_time("2026-11-24 12:00:31")
def test_an_http_date_that_is_over_is_no_negative_wait():
    assert wait_for(DATE) in (0, 3.25)


NONSENSE = [
    "", " ", "soon", "-1", "-0.5", "nan", "NaN", "inf", "-inf", "\N{SUPERSCRIPT TWO}", "1_0",
    "0x10", "7 seconds", "7,8", "Tue, 99 Nov 2026 12:00:30 GMT",
    "Tue, 24 Nov 99999 12:00:30 GMT",
    "Tue, 24 Nov 2026 99:00:30 GMT", "Tue, 24 Foo 2026 12:00:30 GMT", "\x00", "GMT",
]  # fmt: skip


@pytest.mark.parametrize("value", NONSENSE, ids=ascii)
def test_nonsense_falls_back(value):
    assert wait_for(value) == 3.25


@pytest.mark.parametrize(
    "value",
    [None, math.nan, -1, [], object(), b"\xff", True],
    ids=lambda value: type(value).__name__,
)
def test_a_header_that_is_no_text_falls_back(value):
    assert wait_for(value) in (3.25, 1)


@pytest.mark.parametrize("headers", [None, {}, "Retry-After: 7", 7, [("X", "7")]], ids=repr)
def test_headers_that_are_none_fall_back(headers):
    wait = wait_retry_after(wait_fixed(3.25))
    assert wait(state_after(ServerError(429, headers=headers))) == 3.25


@pytest.mark.parametrize("error", [TimeoutError(), KeyError(), ServerError(503)], ids=repr)
def test_without_the_header_it_falls_back(error):
    assert wait_retry_after(wait_fixed(3.25))(state_after(error)) == 3.25


def test_after_an_unwanted_result_it_falls_back():
    assert wait_retry_after(wait_fixed(3.25))(state_after(result="sent")) == 3.25


def test_headers_that_raise_fall_back():
    class OddError(Exception):
        status = 429

        @property
        def headers(self):
            raise RuntimeError

    assert wait_retry_after(wait_fixed(3.25))(state_after(OddError())) == 3.25


@pytest.mark.parametrize("value", ["9" * 30, "9" * 5000, "61", "120"], ids=len)
async def test_longer_than_the_maximum_gives_up_at_once_and_says_so(value):
    backend, sleeps = Backend(default=lambda: ServerError(429, {"Retry-After": value})), Sleeps()
    with pytest.raises(ServerError) as caught:
        await transient_retry(sleep=sleeps)(backend.send)()
    assert (backend.attempts, sleeps) == (1, [])
    (note,) = caught.value.__notes__
    assert "60" in note
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


async def test_a_maximum_of_one_s_own_counts():
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


def test_what_is_waited_can_be_combined():
    wait = wait_retry_after(wait_none()) + wait_fixed(2)
    assert wait(state_after(ServerError(429, {"Retry-After": "7"}))) == 9


async def test_a_429_never_moves_the_circuit(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    backend, sleeps = Backend(default=lambda: ServerError(429, {"Retry-After": "7"})), Sleeps()
    send = breaker(transient_retry(sleep=sleeps)(backend.send))
    for _ in range(20):
        with pytest.raises(ServerError):
            await send()
    assert (backend.attempts, breaker.state) == (100, CircuitState.CLOSED)
    assert (breaker.snapshot().failures, breaker.snapshot().ignored) == (0, 20)


# wait_until_ready, for retries outside the breaker


def rejection(retry_after):
    return CircuitBreakerOpenError("eu-west-1", CircuitState.OPEN, "TimeoutError", retry_after)


def test_after_a_rejection_it_waits_until_the_circuit_is_due():
    wait = wait_until_ready(wait_fixed(3.25))
    assert 42 <= wait(state_after(rejection(42.0))) <= 43


def test_after_a_rejection_without_an_end_it_falls_back():
    assert wait_until_ready(wait_fixed(3.25))(state_after(rejection(None))) == 3.25


@pytest.mark.parametrize("error", [TimeoutError(), ServerError(), KeyError()], ids=repr)
def test_after_anything_else_it_falls_back(error):
    assert wait_until_ready(wait_fixed(3.25))(state_after(error)) == 3.25


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


async def test_retries_outside_do_not_retry_a_rejection(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=2), clock=clock)
    backend = Backend()
    with pytest.raises(CircuitBreakerOpenError):
        await transient_retry(wait=wait_none())(breaker(backend.send))()
    assert (backend.attempts, breaker.snapshot().rejected) == (2, 1)


# The budget


def budgeted(breaker, backend, budget, **more):
    return breaker(transient_retry(wait=wait_none(), budget=budget, **more)(backend.send))


@pytest.fixture
def region(clock):
    def make(name="eu-west-1"):
        return CircuitBreaker(name, NEVER_TRIPS, clock=clock)

    return make


async def call(send, times):
    for _ in range(times):
        with pytest.raises(ServerError):
            await send()


async def test_without_a_budget_every_retry_is_made(region):
    backend = Backend()
    await call(budgeted(region(), backend, None), 100)
    assert backend.attempts == 500


async def test_with_a_budget_retries_are_a_share_of_the_calls(region):
    backend = Backend()
    await call(budgeted(region(), backend, RetryBudget(minimum_per_second=0)), 100)
    assert 115 <= backend.attempts <= 121


async def test_a_minimum_is_there_for_a_region_with_few_calls(region):
    backend = Backend()
    await call(budgeted(region(), backend, RetryBudget(ratio=0, minimum_per_second=1)), 10)
    assert 10 < backend.attempts <= 20


async def test_a_budget_of_nothing_allows_no_retry(region):
    backend = Backend()
    await call(budgeted(region(), backend, RetryBudget(ratio=0, minimum_per_second=0)), 10)
    assert backend.attempts == 10


async def test_a_budget_is_shared_by_all_loops_of_a_region(region):
    breaker, budget = region(), RetryBudget(minimum_per_second=0)
    first, second = Backend(), Backend()
    await call(budgeted(breaker, first, budget), 50)
    await call(budgeted(breaker, second, budget), 50)
    assert first.attempts + second.attempts <= 121


async def test_each_region_has_a_budget_of_its_own(region):
    budget, here, there = RetryBudget(ratio=0, minimum_per_second=1), Backend(), Backend()
    await call(budgeted(region(), here, budget), 100)
    await call(budgeted(region("us-east-1"), there, budget), 10)
    assert here.attempts - 100 == there.attempts - 10 > 0


async def test_a_budget_comes_back_with_time(region, clock):
    breaker, backend = region(), Backend()
    send = budgeted(breaker, backend, RetryBudget(ratio=0, minimum_per_second=1, window=10))
    await call(send, 20)
    spent = backend.attempts
    await call(send, 1)
    assert backend.attempts == spent + 1
    clock.advance(20)
    await call(send, 1)
    assert backend.attempts > spent + 2


async def test_old_calls_pay_for_no_retry(region, clock):
    breaker, backend = region(), Backend(default=None)
    send = budgeted(breaker, backend, RetryBudget(minimum_per_second=0, window=10))
    for _ in range(100):
        await send()
    clock.advance(20)
    backend.default = ServerError
    await call(send, 1)
    assert backend.attempts == 101


async def test_a_clock_that_steps_back_harms_no_budget(region, clock):
    backend = Backend()
    clock.advance(1000)
    send = budgeted(region(), backend, RetryBudget(minimum_per_second=1, ratio=0))
    await call(send, 20)
    clock.advance(-500)
    spent = backend.attempts
    await call(send, 20)
    assert backend.attempts - spent <= 40
    clock.advance(20)
    spent = backend.attempts
    await call(send, 1)
    assert backend.attempts > spent + 1


async def test_a_budget_that_is_spent_lets_the_attempt_s_own_error_out(region):
    backend, sleeps = Backend(), Sleeps()
    send = budgeted(region(), backend, RetryBudget(ratio=0, minimum_per_second=0), sleep=sleeps)
    with pytest.raises(ServerError):
        await send()
    assert sleeps == []


async def test_outside_a_protected_call_a_budget_limits_nothing():
    backend = Backend()
    send = transient_retry(wait=wait_none(), budget=RetryBudget(ratio=0, minimum_per_second=0))
    await call(send(backend.send), 3)
    assert backend.attempts == 15


def test_a_budget_holds_for_plain_loops(region):
    backend = Backend()
    budget = RetryBudget(ratio=0, minimum_per_second=0)
    send = region()(transient_retry(wait=wait_none(), budget=budget)(backend.send_plain))
    with pytest.raises(ServerError):
        send()
    assert backend.attempts == 1


async def test_a_budget_of_many_tasks_at_once_is_not_overdrawn(region):
    backend = Backend()
    send = budgeted(region(), backend, RetryBudget(minimum_per_second=0))
    results = await asyncio.gather(*(send() for _ in range(100)), return_exceptions=True)
    assert {type(result) for result in results} == {ServerError}
    assert 110 <= backend.attempts <= 120


async def test_results_that_are_not_wanted_draw_on_the_budget_too(region):
    backend = Backend(default=None)
    send = budgeted(
        region(),
        backend,
        RetryBudget(ratio=0, minimum_per_second=0),
        retry=tenacity.retry_if_result(lambda _: True),
    )
    with pytest.raises(tenacity.RetryError):
        await send()
    assert backend.attempts == 1
