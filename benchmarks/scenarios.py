"""The scenarios of the scoreboard. None waits for a clock: time is moved by hand."""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any, cast

from tenacity import RetryError, retry, stop_after_attempt

from benchmarks.contenders import RegionBreaker
from benchmarks.contenders.base import CLOSED, RECOVERY, REGION, SUCCESSES, THRESHOLD, Send
from benchmarks.faults import ClientError, PoisonError, ServerError
from benchmarks.situation import DOWN, NOT_FOUND, Situation, settle
from benchmarks.storm import Storm, with_plain_retry, with_transient_retry

HOUR = 3_600.0
REJECTIONS = 10_000


async def opens(at: Situation) -> str:
    """Opens after 10 failed calls in a row."""
    await at.open()
    return "no" if await at.admits() else "yes"


async def excluded_between(at: Situation) -> str:
    """Opens after 9 failures, one 404 and one failure."""
    for _ in range(THRESHOLD - 1):
        await at.call(DOWN)
    await at.call(NOT_FOUND)
    await at.call(DOWN)
    return "no" if await at.admits() else "yes"


async def tripping_call(at: Situation) -> str:
    """What the call raises that opens the circuit."""
    return "its own error" if isinstance(await at.open(), ServerError) else "the breaker's error"


async def cancelled_calls(at: Situation) -> str:
    """Still CLOSED after 10 cancelled calls."""
    tasks = [at.hold() for _ in range(THRESHOLD)]
    await settle()
    await at.cancel(*tasks)
    return "yes" if await at.admits() else "no: opened"


async def half_open_crowd(at: Situation) -> str:
    """100 callers at the half-open instant: how many come to the server at once."""
    await at.half_open()
    return str(await at.admitted_of(100))


async def probe_cancelled(at: Situation) -> str:
    """The only probe is cancelled: the state after it."""
    await at.half_open()
    probe = at.hold()
    await settle()
    await at.cancel(probe)
    return at.contender.state()


async def probe_hung(at: Situation) -> str:
    """Three probes hang for ever: does a call get through a recovery timeout later."""
    await at.half_open()
    probes = [at.hold() for _ in range(SUCCESSES)]
    await settle()
    at.clock.advance(RECOVERY + 1)
    admitted = await at.admits()
    await at.cancel(*probes)
    return "yes" if admitted else "no: stuck"


async def probe_ignored(at: Situation) -> str:
    """The probe ends with a 404: the state after it."""
    await at.half_open()
    await at.call(NOT_FOUND)
    return at.contender.state()


async def probe_classifier_raises(at: Situation) -> str:
    """The filter raises over the probe's error: what the caller gets, and the state after it."""
    at.contender.use_classifier_that_raises()
    await at.half_open()
    raised = await at.call(PoisonError)
    whose = "its own error" if isinstance(raised, PoisonError) else "the filter's error"
    return f"{whose}, {at.contender.state()}"


async def late_success_in_open(at: Situation) -> str:
    """A call from before the opening succeeds after it: is it still OPEN."""
    early = at.hold()
    await settle()
    await at.open()
    await at.release(early)
    return "no: closed" if await at.admits() else "yes"


async def late_success_in_half_open(at: Situation) -> str:
    """Three of them succeed beside a probe that is under way: is it still HALF_OPEN."""
    early = [at.hold() for _ in range(SUCCESSES)]
    await settle()
    await at.half_open()
    released, at.over = at.over, asyncio.Event()
    probe = at.hold()
    await settle()
    released.set()
    await asyncio.gather(*early)
    state = at.contender.state()
    await at.release(probe)
    return "no: closed" if state == CLOSED else "yes"


async def late_failure_in_half_open(at: Situation) -> str:
    """One of them fails beside a probe that goes well: does the next call get through."""
    early = at.hold(DOWN)
    await settle()
    await at.half_open()
    released, at.over = at.over, asyncio.Event()
    probe = at.hold()
    await settle()
    released.set()
    await early
    await at.release(probe)
    return "yes" if await at.admits() else "no: open again"


async def late_failures_in_new_closed(at: Situation) -> str:
    """Ten of them fail after the circuit has closed again: is it still CLOSED."""
    early = [at.hold(DOWN) for _ in range(THRESHOLD)]
    await settle()
    await at.half_open()
    for _ in range(SUCCESSES):
        await at.call()
    await at.release(*early)
    return "yes" if await at.admits() else "no: opened"


async def retry_error_503(at: Situation) -> str:
    """Ten `RetryError`s of a 503: do they open it."""
    return await _retry_errors(at, ServerError(503))


async def retry_error_404(at: Situation) -> str:
    """Ten `RetryError`s of a 404: do they open it."""
    return await _retry_errors(at, ClientError(404))


async def _retry_errors(at: Situation, error: Exception) -> str:
    async def fail(region: str) -> None:
        del region
        raise error

    protected = at.contender.protect(retry(stop=stop_after_attempt(2))(fail))
    for _ in range(THRESHOLD):
        try:
            await protected(REGION)
        except RetryError:
            continue
        except at.contender.rejection:
            break
    return "yes" if at.contender.is_open() else "no"


async def retry_storm(at: Situation) -> str:
    """50 tasks with retries: requests in all, and those that began after OPEN."""
    contender = at.contender
    aware = isinstance(contender, RegionBreaker)
    stack = with_transient_retry(contender, "call") if aware else with_plain_retry(contender)
    storm = Storm(contender, stack)
    await storm.run()
    return f"{storm.requests}, {storm.after_open} after OPEN"


async def wall_clock_forward(at: Situation) -> str:
    """The wall clock is set an hour forward while it is OPEN: is it still OPEN."""
    await at.open()
    at.clock.step_wall(HOUR)
    return "no" if await at.admits() else "yes"


async def wall_clock_back(at: Situation) -> str:
    """The wall clock is set an hour back: does a call get through when the time is over."""
    await at.open()
    at.clock.step_wall(-HOUR)
    at.clock.advance(RECOVERY + 1)
    return "yes" if await at.admits() else "no: an hour longer"


async def async_generator(at: Situation) -> str:
    """Ten async generators fail half-way: does it open."""

    async def stream(region: str) -> AsyncIterator[str]:
        yield region
        raise ServerError(503)

    try:
        protected: Any = at.contender.protect(cast("Send", stream))
    except TypeError:
        return "refused when decorating"
    for _ in range(THRESHOLD):
        stream_of_one = protected(REGION)
        if not hasattr(stream_of_one, "__aiter__"):
            stream_of_one.close()
            return "broken: it gives a coroutine"
        try:
            async for _ in stream_of_one:
                continue
        except ServerError:
            continue
    return "yes" if at.contender.is_open() else "no: never counted"


async def what_the_error_says(at: Situation) -> str:
    """The text of a rejection."""
    await at.open()
    at.clock.advance(18)
    return f"`{await at.call()}`"


async def rejections(at: Situation) -> str:
    """10,000 rejections in a row: bytes that are left of them."""
    await at.open()
    for _ in range(100):
        await at.call()
    gc.collect()
    tracemalloc.start()
    for _ in range(REJECTIONS):
        await at.call()
    gc.collect()
    left = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return "none" if left < REJECTIONS else f"{left / REJECTIONS:,.0f} each"
