"""call_timeout: the breaker ends a call itself, and counts a failure."""

import asyncio

import pytest

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitState,
    Outcome,
    scope,
)
from resilience.testing import FakeClock, run_in_virtual_time
from resilience.watched_permit import RunningCall

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


def loop_time():
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return 0.0


def breaker_of(**policy):
    rules = {"failure_threshold": 2, "call_timeout": 5, **policy}
    return CircuitBreaker("eu-west-1", BreakerPolicy(**rules), clock=loop_time)


async def hang():
    await asyncio.Event().wait()


def test_a_call_without_an_answer_is_ended_and_counts_as_a_failure():
    breaker = breaker_of()

    async def main():
        for _ in range(2):
            with pytest.raises(TimeoutError, match="call_timeout of 5 s"):
                await breaker.call(hang)
        assert asyncio.current_task().cancelling() == 0
        return loop_time()

    assert run_in_virtual_time(main(), FakeClock()) == 10
    snapshot = breaker.snapshot()
    assert (snapshot.failures, snapshot.trips) == (2, 1)
    assert snapshot.reason == "no answer within 5 s (call_timeout)"


def test_a_call_that_ends_in_time_is_left_alone():
    breaker = breaker_of()

    @breaker
    async def call():
        await asyncio.sleep(4.9)
        return "delivered"

    async def main():
        for _ in range(3):
            assert await call() == "delivered"
        await asyncio.sleep(100)

    run_in_virtual_time(main(), FakeClock())
    assert breaker.snapshot().successes == 3


def test_it_counts_whatever_the_classifier_says():
    breaker = CircuitBreaker(
        "eu-west-1",
        BreakerPolicy(failure_threshold=1, call_timeout=1),
        classifier=lambda _: Outcome.IGNORED,
    )

    async def main():
        with scope.watch_outcomes() as outcomes:
            with pytest.raises(TimeoutError) as caught:
                await breaker.call(hang)
            return outcomes.outcome_of(caught.value)

    assert run_in_virtual_time(main(), FakeClock()) is Outcome.FAILURE
    assert breaker.state is OPEN


def test_a_probe_that_hangs_fails():
    breaker = breaker_of(failure_threshold=1, recovery_timeout=10)

    async def main():
        breaker.acquire().fail()
        await asyncio.sleep(10)
        with pytest.raises(TimeoutError):
            await breaker.call(hang)

    run_in_virtual_time(main(), FakeClock())
    assert breaker.snapshot().transitions[-1][:2] == (HALF_OPEN, OPEN)


def test_an_awaitable_that_a_def_returns_is_ended_too():
    breaker = breaker_of()

    @breaker
    def call():
        return hang()

    async def main():
        with pytest.raises(TimeoutError, match="call_timeout"):
            await call()

    run_in_virtual_time(main(), FakeClock())
    assert breaker.snapshot().failures == 1


@pytest.mark.parametrize("seconds", [1, 5])
def test_a_cancellation_by_somebody_else_goes_first(seconds):
    """Also when both happen at the same moment."""
    breaker = breaker_of()

    async def main():
        task = asyncio.ensure_future(breaker.call(hang))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(seconds, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    run_in_virtual_time(main(), FakeClock())
    assert breaker.snapshot().ignored == 1


def test_a_timeout_outside_keeps_its_meaning():
    breaker = breaker_of()

    async def main():
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(1):
                await breaker.call(hang)
        assert "call_timeout" not in str(caught.value)

    run_in_virtual_time(main(), FakeClock())
    assert (breaker.snapshot().failures, breaker.snapshot().ignored) == (0, 1)


def test_a_function_that_does_not_let_itself_be_ended_keeps_its_result():
    breaker = breaker_of()

    async def stubborn():
        try:
            await hang()
        except asyncio.CancelledError:
            return "delivered"

    async def fails_otherwise():
        try:
            await hang()
        except asyncio.CancelledError:
            raise ValueError from None

    async def main():
        assert await breaker.call(stubborn) == "delivered"
        with pytest.raises(ValueError):
            await breaker.call(fails_otherwise)
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(1)

    run_in_virtual_time(main(), FakeClock())
    snapshot = breaker.snapshot()
    assert (snapshot.successes, snapshot.ignored, snapshot.failures) == (1, 1, 0)


def test_outside_of_asyncio_there_is_no_timeout():
    breaker = breaker_of()

    async def call():
        return "delivered"

    coroutine = breaker.call(call)
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    assert caught.value.value == "delivered"


# What goes on after its function has returned


async def begin(permit):
    """Wait for two of the five seconds, and go on elsewhere."""
    await asyncio.sleep(2)
    return permit.hand_over()


def test_what_goes_on_has_the_time_that_is_left():
    breaker = breaker_of()

    async def main():
        permit = breaker.acquire()
        rest = await permit.call_async(begin, (permit,), {})
        assert await rest.go_on(asyncio.sleep(2, "a part")) == "a part"
        await asyncio.sleep(100)  # the time of whoever reads
        with pytest.raises(TimeoutError, match="no end of the answer within the call_timeout of 5"):
            await rest.go_on(hang())
        assert await rest.go_on(asyncio.sleep(100, "later")) == "later"
        return loop_time()

    assert run_in_virtual_time(main(), FakeClock()) == 2 + 2 + 100 + 1 + 100
    assert breaker.snapshot().failures == 1
    breaker.acquire().fail()
    assert breaker.snapshot().trips == 1


def test_what_goes_on_may_fail_by_itself():
    breaker = breaker_of()

    async def late():
        await asyncio.sleep(1)
        raise TimeoutError("of the client")

    async def main():
        permit = breaker.acquire()
        rest = await permit.call_async(begin, (permit,), {})
        with pytest.raises(TimeoutError, match="of the client"):
            await rest.go_on(late())
        rest.fail()

    run_in_virtual_time(main(), FakeClock())
    assert breaker.snapshot().failures == 1


@pytest.mark.parametrize(
    "policy", [{"mode": "observe"}, {"call_timeout": None, "cancel_stranded": True}]
)
def test_what_goes_on_may_take_any_time_without_the_rule(policy):
    breaker = breaker_of(**policy)

    async def main():
        permit = breaker.acquire()
        rest = await permit.call_async(begin, (permit,), {})
        assert await rest.go_on(asyncio.sleep(100, "late")) == "late"
        rest.succeed()

    run_in_virtual_time(main(), FakeClock())
    assert breaker.snapshot().successes == 1


def test_what_goes_on_outside_of_asyncio_may_take_any_time():
    async def call():
        return "delivered"

    for breaker in (breaker_of(), CircuitBreaker("eu-west-1")):
        permit = breaker.acquire()
        with pytest.raises(StopIteration) as caught:
            permit.hand_over().go_on(call()).send(None)
        assert caught.value.value == "delivered"


def test_it_can_be_switched_on_for_a_circuit_that_exists():
    breaker = breaker_of(call_timeout=None)

    @breaker
    async def call():
        await hang()

    async def main():
        judge = breaker.judge
        breaker.configure(BreakerPolicy(call_timeout=1), judge._classifier, judge.result_classifier)
        with pytest.raises(TimeoutError, match="call_timeout"):
            await call()

    run_in_virtual_time(main(), FakeClock())


async def test_a_call_that_has_ended_is_not_ended_again():
    call = RunningCall(asyncio.current_task())
    call.end_after(0)
    assert call.close(None) is None
    await asyncio.sleep(0.001)
    assert asyncio.current_task().cancelling() == 0


def test_a_circuit_follows_a_policy_that_watches_calls_in_another_way():
    breaker = breaker_of(call_timeout=None, failure_rate_threshold=0.5)
    judge = breaker.judge
    for policy in (
        BreakerPolicy(failure_rate_threshold=0.5, call_timeout=5),
        BreakerPolicy(failure_rate_threshold=0.5, call_timeout=5, stranded_after=1),
        BreakerPolicy(),
    ):
        late = breaker.acquire()
        breaker.configure(policy, judge._classifier, judge.result_classifier)
        late.fail()
        assert breaker.snapshot().failures == 0
        same = breaker.acquire()
        breaker.configure(policy, judge._classifier, judge.result_classifier)
        same.succeed()
    assert breaker.snapshot().successes == 3
