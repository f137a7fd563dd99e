"""`RetryBudget`: retries are at most a share of the calls of a region."""

import asyncio
import gc
import math
import threading
import weakref
from types import SimpleNamespace

import pytest
import tenacity
from tenacity import wait_none

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerOpenError
from resilience.retry import RetryBudget, transient_retry
from tests.support.client_errors import caused_by
from tests.support.driving import ServerError
from tests.support.retrying import AN_HOUR, Backend, Sleeps, asleep, cancel, ended, settle


@pytest.fixture
def region(clock):
    def make(name="eu-west-1"):
        return CircuitBreaker(name, BreakerPolicy(failure_threshold=10**9), clock=clock)

    return make


@pytest.fixture
def patient(region):
    return region()


def budgeted(breaker, backend, budget, **more):
    policy = {"wait": wait_none(), "budget": budget, **more}
    return breaker(transient_retry(**policy)(backend.send))


async def call(send, times):
    for _ in range(times):
        with pytest.raises(ServerError):
            await send()


def spend(breaker, budget, calls, attempts=5, error=TimeoutError):
    """Make calls that fail, and return how many retries they made."""
    backend = Backend(default=error)
    policy = {"attempts": attempts, "wait": wait_none(), "budget": budget}
    protected = breaker(transient_retry(**policy)(backend.send_plain))
    for _ in range(calls):
        with pytest.raises(type(error())):
            protected()
    return backend.attempts - calls


def throttled():
    return ServerError(429)


# How much it allows


async def test_without_a_budget_every_retry_is_made(region):
    backend = Backend()
    await call(budgeted(region(), backend, None), 100)
    assert backend.attempts == 500


def test_retries_are_at_most_that_share_of_the_calls(patient):
    assert spend(patient, RetryBudget(0.2, minimum_per_second=0), calls=100) == 20


def test_some_retries_a_second_are_always_there(patient):
    assert spend(patient, RetryBudget(0, minimum_per_second=0.7, window=10), calls=100) == 7


def test_the_default_budget_is_a_fifth_and_one_a_second(patient):
    assert spend(patient, RetryBudget(), calls=1000) == 10 + 200


def test_only_the_first_attempt_is_a_call(patient):
    budget = RetryBudget(1, minimum_per_second=0)
    assert spend(patient, budget, calls=10, attempts=100) == 10


async def test_a_budget_of_nothing_allows_no_retry(region):
    backend = Backend()
    await call(budgeted(region(), backend, RetryBudget(ratio=0, minimum_per_second=0)), 10)
    assert backend.attempts == 10


def test_a_budget_holds_for_plain_loops(region):
    backend = Backend()
    budget = RetryBudget(ratio=0, minimum_per_second=0)
    send = region()(transient_retry(wait=wait_none(), budget=budget)(backend.send_plain))
    with pytest.raises(ServerError):
        send()
    assert backend.attempts == 1


async def test_a_budget_of_many_tasks_at_the_same_time_is_not_overdrawn(region):
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


async def test_a_budget_that_is_spent_lets_the_attempts_own_error_out(region):
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


def test_a_loop_that_ends_anyway_takes_nothing_out(patient):
    budget = RetryBudget(0, minimum_per_second=0.5)
    assert spend(patient, budget, calls=10, attempts=1) == 0
    assert spend(patient, budget, calls=10) == 5


# What a retry costs


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError,
        ConnectionResetError,
        ServerError,
        lambda: ServerError(500),
        lambda: ServerError(504),
        lambda: ServerError(408),
        lambda: ServerError(503, {"Retry-After": "0"}),
    ],
)
def test_a_retry_after_a_failure_costs_its_full_price(patient, error):
    assert spend(patient, RetryBudget(0.2, minimum_per_second=0), 100, error=error) == 20


@pytest.mark.parametrize("calls", [25, 50, 100, 250])
def test_a_retry_after_a_429_costs_five_fourteenths_of_it(patient, calls):
    budget = RetryBudget(0.2, minimum_per_second=0)
    assert spend(patient, budget, calls, error=throttled) == calls // 5 * 14 // 5


def test_a_429_that_another_error_wraps_is_cheap_too(patient):
    budget = RetryBudget(0, minimum_per_second=1)  # ten retries after failures in ten seconds
    assert spend(patient, budget, 100, error=lambda: caused_by(ServerError(429))) == 28


def test_a_429_that_is_a_result_is_cheap_too(patient):
    def spend_on(status):
        calls = []

        @patient
        @transient_retry(
            wait=wait_none(),
            budget=RetryBudget(0, minimum_per_second=1),
            retry=tenacity.retry_if_result(lambda _: True),
        )
        def send():
            calls.append(1)
            return SimpleNamespace(status_code=status)

        for _ in range(20):
            with pytest.raises(tenacity.RetryError):
                send()
        return len(calls) - 20

    assert (spend_on(503), spend_on(429)) == (10, 28)


def test_both_kinds_draw_on_one_account(patient):
    budget = RetryBudget(0, minimum_per_second=1)  # 140 in all
    assert spend(patient, budget, 1, error=throttled) == 4  # 20
    assert spend(patient, budget, 2) == 8  # 112
    assert spend(patient, budget, 1) == 0  # a failure would cost 14 of the 8 that are left
    assert spend(patient, budget, 1, error=throttled) == 1  # and this costs 5 of them
    assert spend(patient, budget, 1, error=throttled) == 0


def test_an_empty_account_fails_no_first_attempt(patient):
    budget = RetryBudget(0, minimum_per_second=0)
    protected = patient(transient_retry(budget=budget)(Backend(default=None).send_plain))
    for error in (TimeoutError, throttled):
        assert spend(patient, budget, 10, error=error) == 0
        assert protected() == "sent"


# What comes back


async def send_after(budget, breaker, *errors, **settings):
    """Make one call that fails with these errors first, and return the attempts it made."""
    backend = Backend(*errors, default=None)
    send = budgeted(breaker, backend, budget, **settings)
    try:
        await send()
    except Exception:
        return -backend.attempts
    return backend.attempts


async def test_a_retry_that_goes_well_is_refunded(patient):
    budget = RetryBudget(0, minimum_per_second=0.1)  # one retry after a failure
    for _ in range(50):
        assert await send_after(budget, patient, TimeoutError()) == 2
        assert await send_after(budget, patient, throttled()) == 2
    assert spend(patient, budget, 10) == 1


def test_a_retry_that_goes_well_is_refunded_in_a_plain_loop(patient):
    budget, backend = RetryBudget(0, minimum_per_second=0.1), Backend(default=None)
    send = patient(transient_retry(wait=wait_none(), budget=budget)(backend.send_plain))
    for _ in range(50):
        backend.errors.append(TimeoutError())
        assert send() == "sent"
    assert spend(patient, budget, 10) == 1


async def test_only_the_retry_that_goes_well_is_refunded(patient):
    budget = RetryBudget(0, minimum_per_second=0.3)
    assert await send_after(budget, patient, TimeoutError(), TimeoutError()) == 3
    assert spend(patient, budget, 10) == 2


@pytest.mark.parametrize("last", [ServerError(404), KeyError(), asyncio.CancelledError()], ids=repr)
async def test_a_retry_that_fails_in_another_way_is_not_refunded(patient, last):
    budget = RetryBudget(0, minimum_per_second=0.1)
    backend = Backend(TimeoutError(), last)
    with pytest.raises(type(last)):
        await budgeted(patient, backend, budget)()
    assert backend.attempts == 2
    assert spend(patient, budget, 10) == 0


async def test_a_first_attempt_that_goes_well_refunds_nothing(patient):
    budget = RetryBudget(0, minimum_per_second=0.3)
    assert spend(patient, budget, 1, attempts=3) == 2
    for _ in range(50):
        assert await send_after(budget, patient) == 1
    assert spend(patient, budget, 10) == 1


async def test_a_refund_that_comes_late_gives_back_nothing_of_the_others(patient, clock):
    budget = RetryBudget(0, minimum_per_second=0.1, window=10)

    async def sleep(_):
        clock.advance(60)
        assert spend(patient, budget, 10) == 1  # what was paid before is forgotten

    assert await send_after(budget, patient, TimeoutError(), sleep=sleep) == 2
    assert spend(patient, budget, 10) == 0


def test_a_refund_that_comes_late_pays_for_nothing_when_the_clock_steps_back(patient, clock):
    budget = RetryBudget(0, minimum_per_second=0.1, window=10)
    payment = budget.pay(patient)
    clock.advance(60)
    assert budget.allows_retry(patient)
    payment.refund()
    clock.advance(-60)
    assert [budget.allows_retry(patient) for _ in range(2)] == [True, False]


def test_what_was_paid_is_refunded_once(patient):
    budget = RetryBudget(0, minimum_per_second=0.2)
    payments = [budget.pay(patient) for _ in range(3)]
    assert payments[2] is None
    for _ in range(3):
        payments[0].refund()
    assert [budget.allows_retry(patient) for _ in range(2)] == [True, False]


# A retry that never begins


def fails(state):
    """Stand for a condition that may look at results: tenacity runs from the start."""
    return state.outcome.failed


every_condition = pytest.mark.parametrize("more", [{}, {"retry": fails}])


@every_condition
async def test_a_retry_that_is_cancelled_in_its_wait_is_refunded(patient, more):
    budget = RetryBudget(0, minimum_per_second=0.1)
    for _ in range(3):
        backend = Backend()
        send = budgeted(patient, backend, budget, **{"wait": AN_HOUR, **more})
        task = await asleep(backend, send)
        await cancel(task)
        assert backend.attempts == 1
    assert spend(patient, budget, 10) == 1


@every_condition
async def test_a_retry_whose_circuit_opens_in_its_wait_is_refunded(clock, more):
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    budget, backend = RetryBudget(0, minimum_per_second=0.1), Backend()
    task = await asleep(backend, budgeted(breaker, backend, budget, **{"wait": AN_HOUR, **more}))
    breaker.force_open("maintenance")
    assert type(await ended(task)) is CircuitBreakerOpenError
    breaker.reset()
    assert spend(breaker, budget, 5) == 1


@every_condition
@pytest.mark.parametrize("where", ["before_sleep", "sleep"])
def test_a_plain_retry_that_is_interrupted_before_it_begins_is_refunded(patient, more, where):
    def interrupt(_):
        raise KeyboardInterrupt

    budget = RetryBudget(0, minimum_per_second=0.1)
    backend = Backend()
    more = {"wait": wait_none(), "budget": budget, where: interrupt, **more}
    send = patient(transient_retry(**more)(backend.send_plain))
    for attempts in range(1, 4):
        with pytest.raises(KeyboardInterrupt):
            send()
        assert backend.attempts == attempts
    assert spend(patient, budget, 10) == 1


@every_condition
async def test_a_coroutine_that_is_closed_in_its_wait_is_refunded(patient, more):
    budget, backend = RetryBudget(0, minimum_per_second=0.1), Backend()
    call = budgeted(patient, backend, budget, **{"wait": AN_HOUR, **more})()
    call.send(None)
    call.close()
    assert backend.attempts == 1
    assert spend(patient, budget, 10) == 1


@every_condition
async def test_a_retry_that_is_cancelled_on_the_wire_is_not_refunded(patient, more):
    budget, attempts = RetryBudget(0, minimum_per_second=0.1), []

    @patient
    @transient_retry(**{"wait": wait_none(), "budget": budget, **more})
    async def send():
        attempts.append(True)
        if len(attempts) == 1:
            raise TimeoutError
        await asyncio.sleep(3600)

    task = asyncio.create_task(send())
    await settle()
    await cancel(task)
    assert len(attempts) == 2
    assert spend(patient, budget, 10) == 0


async def test_conditions_of_a_user_see_a_budget_too(patient):
    async def is_timeout(state):
        return isinstance(state.outcome.exception(), TimeoutError)

    budget = RetryBudget(0, minimum_per_second=0.1)
    for _ in range(5):
        assert await send_after(budget, patient, TimeoutError(), retry=is_timeout) == 2
    assert await send_after(budget, patient, TimeoutError(), OSError(), retry=is_timeout) == -2
    assert await send_after(budget, patient, TimeoutError(), retry=is_timeout) == -1


def test_threads_overdraw_no_account_and_refund_what_they_paid(patient):
    budget = RetryBudget(0, minimum_per_second=1)  # ten retries after failures
    kept, start = [], threading.Barrier(8)

    def use(refunds):
        start.wait()
        for _ in range(200):
            payment = budget.pay(patient, throttled=refunds)
            if payment is not None and refunds:
                payment.refund()
            elif payment is not None:
                kept.append(payment)

    threads = [threading.Thread(target=use, args=(number % 2 == 0,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while (payment := budget.pay(patient)) is not None:
        kept.append(payment)
    assert len(kept) == 10
    assert budget.pay(patient, throttled=True) is None


# Time


def test_what_is_older_than_the_window_is_forgotten(patient, clock):
    budget = RetryBudget(0, minimum_per_second=0.5, window=10)
    assert spend(patient, budget, calls=10) == 5
    clock.advance(9)
    assert spend(patient, budget, calls=10) == 0
    clock.advance(1)
    assert spend(patient, budget, calls=10) == 5


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


def test_a_clock_that_steps_back_leaves_nobody_without_retries(patient, clock):
    clock.advance(1000)
    budget = RetryBudget(0, minimum_per_second=0.5)
    assert spend(patient, budget, calls=10) == 5
    clock.advance(-500)
    assert spend(patient, budget, calls=10) == 5


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


# Regions


def test_each_region_has_an_account_that_all_its_loops_share(clock):
    budget = RetryBudget(0, minimum_per_second=0.5)
    policy = BreakerPolicy(failure_threshold=1000)
    one, other = (CircuitBreaker(name, policy, clock=clock) for name in ("one", "other"))
    assert [spend(one, budget, calls=10), spend(one, budget, calls=10)] == [5, 0]
    assert spend(other, budget, calls=10) == 5


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


def test_a_budget_keeps_no_circuit_alive(region):
    budget, breaker = RetryBudget(), region()
    spend(breaker, budget, calls=1)
    gone = weakref.ref(breaker)
    del breaker
    gc.collect()
    assert gone() is None


# Wrong arguments


@pytest.mark.parametrize("name", ["ratio", "minimum_per_second", "window"])
@pytest.mark.parametrize("value", [-1, math.nan, "1", None, True])
def test_a_wrong_number_of_a_budget_is_named(name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        RetryBudget(**{name: value})


@pytest.mark.parametrize("value", [0, math.inf])
def test_a_wrong_window_of_a_budget_is_named(value):
    with pytest.raises(ValueError, match="window"):
        RetryBudget(window=value)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"ratio": -0.1}, ValueError, "ratio must be a finite number of at least 0, got -0.1"),
        ({"ratio": "all"}, TypeError, "ratio must be a finite number of at least 0, got str"),
        ({"ratio": True}, TypeError, "ratio must be a finite number of at least 0, got bool"),
        ({"minimum_per_second": math.nan}, ValueError, "minimum_per_second must be .* got nan"),
        ({"minimum_per_second": math.inf}, ValueError, "minimum_per_second must be .* got inf"),
        ({"window": 0}, ValueError, "window must be a finite number of seconds > 0, got 0"),
    ],
)
def test_what_is_wrong_with_a_budget_is_named(wrong, error, says):
    with pytest.raises(error, match=says):
        RetryBudget(**wrong)


@pytest.mark.parametrize("is_async", [True, False])
def test_a_condition_that_is_set_afterwards_holds_with_a_budget_too(patient, is_async):
    backend = Backend(KeyError())
    sleep = Sleeps()
    settings = {"wait": wait_none(), "sleep": sleep if is_async else sleep.plain}
    decorate = transient_retry(budget=RetryBudget(), **settings)
    send = patient(decorate(backend.send if is_async else backend.send_plain))

    def call():
        return asyncio.run(send()) if is_async else send()

    with pytest.raises(KeyError):
        call()
    assert backend.attempts == 1
    send.retry.retry = tenacity.retry_if_exception_type(KeyError)
    backend.errors, backend.default = [KeyError()], None
    assert call() == "sent"
    assert backend.attempts == 3
