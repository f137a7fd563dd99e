"""The scenarios of the suite. None waits for a clock: time is moved by hand.

Each puts a breaker into one situation, and returns what has become of it in a few words.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import repeat

from tenacity import RetryError, retry, stop_after_attempt

from resilience.testing.conformance.adapter import CLOSED, OPEN, RECOVERY, SUCCESSES, THRESHOLD
from resilience.testing.conformance.errors import REGION, HttpError, PoisonError
from resilience.testing.conformance.situation import Situation, down, not_found, settle

HOUR = 3_600.0
THREADS = 8
PATIENCE = 2.0  # seconds; only threads that wait for a lock take that long


async def opens_and_closes(at: Situation) -> str:
    """Ten failures open it, three successes after the recovery timeout close it."""
    await at.open()
    if await at.admits():
        return "no: it does not open"
    at.clock.advance(RECOVERY + 1)
    for _ in range(SUCCESSES):
        await at.call()
    return "yes" if at.breaker.state() == CLOSED else "no: it does not close"


async def half_open_crowd(at: Situation) -> str:
    """100 callers at the half-open instant: how many reach the server at the same time."""
    await at.half_open()
    return str(await at.admitted_of(100))


async def probe_cancelled(at: Situation) -> str:
    """The only probe is cancelled: the state after it."""
    await at.half_open()
    probe = at.hold()
    await settle()
    await at.cancel(probe)
    return at.breaker.state()


async def probe_hung(at: Situation) -> str:
    """Three probes hang for ever: does a call get through a recovery timeout later."""
    await at.half_open()
    probes = [at.hold() for _ in range(SUCCESSES)]
    await settle()
    at.clock.advance(RECOVERY + 1)
    admitted = await at.admits()
    await at.cancel(*probes)
    return "yes" if admitted else "no: stuck"


async def probe_nested(at: Situation) -> str:
    """Each probe makes a second protected call in the same region: does the circuit close."""
    await at.half_open()

    async def outer(region: str) -> None:
        await at.send(region, None, None)

    protected = at.breaker.protect(outer)
    for _ in range(SUCCESSES):
        try:
            await protected(REGION)
        except at.breaker.rejection:
            return "no: rejected"
    return "yes" if at.breaker.state() == CLOSED else "no"


async def probes_refused(at: Situation) -> str:
    """Three probes end with a 404: the state after them."""
    await at.half_open()
    for _ in range(SUCCESSES):
        await at.call(not_found)
    return at.breaker.state()


async def filter_raises(at: Situation) -> str:
    """The filter raises over the errors of three probes: does a call get through afterwards."""
    at.breaker.use_classifier_that_raises()
    await at.half_open()
    for _ in range(SUCCESSES):
        await at.call(PoisonError)
    at.clock.advance(RECOVERY + 1)
    return "yes" if await at.admits() else "no: stuck"


async def late_success_in_open(at: Situation) -> str:
    """A call from before the opening succeeds after it: is the circuit still OPEN."""
    early = at.hold()
    await settle()
    await at.open()
    await at.release(early)
    return "no: closed" if await at.admits() else "yes"


async def late_success_in_half_open(at: Situation) -> str:
    """Three calls from before the opening succeed while a probe runs: is it still HALF_OPEN."""
    early = [at.hold() for _ in range(SUCCESSES)]
    await settle()
    await at.half_open()
    released, at.over = at.over, asyncio.Event()
    probe = at.hold()
    await settle()
    released.set()
    await asyncio.gather(*early)
    state = at.breaker.state()
    await at.release(probe)
    return "no: closed" if state == CLOSED else "yes"


async def late_failure_in_half_open(at: Situation) -> str:
    """One call from before fails while a good probe runs: does the next one get through."""
    early = at.hold(down)
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
    """Ten calls from before the opening fail after the circuit has closed: is it still CLOSED."""
    early = [at.hold(down) for _ in range(THRESHOLD)]
    await settle()
    await at.half_open()
    for _ in range(SUCCESSES):
        await at.call()
    await at.release(*early)
    return "yes" if await at.admits() else "no: opened"


async def retry_error(at: Situation) -> str:
    """Ten `RetryError`s of a 503: does the circuit open."""

    async def fail(region: str) -> None:
        del region
        raise HttpError(503)

    decorate = retry(stop=stop_after_attempt(2))
    protected: Callable[[str], Awaitable[None]] = at.breaker.protect(decorate(fail))
    for _ in range(THRESHOLD):
        with suppress(RetryError):
            await protected(REGION)
    return "yes" if at.breaker.state() == OPEN else "no"


async def wall_clock_back(at: Situation) -> str:
    """The wall clock is set an hour back: does a call get through after the recovery timeout."""
    await at.open()
    at.clock.set_wall_clock(-HOUR)
    at.clock.advance(RECOVERY + 1)
    return "yes" if await at.admits() else "no: an hour longer"


async def async_generator(at: Situation) -> str:
    """Ten async generators fail half-way: does the circuit open."""

    async def stream(region: str) -> AsyncIterator[str]:
        yield region
        raise HttpError(503)

    try:
        protected = at.breaker.protect(stream)
    except TypeError:
        return "refused when decorating"
    for _ in range(THRESHOLD):
        with suppress(HttpError):
            async for _ in protected(REGION):
                continue
    return "yes" if at.breaker.state() == OPEN else "no: not counted"


async def threads_in_closed(at: Situation) -> str:
    """8 threads call a `def` while the circuit is CLOSED: how many are inside at the same time."""
    all_inside = threading.Barrier(THREADS)

    def serve(region: str) -> str:
        with suppress(threading.BrokenBarrierError):
            all_inside.wait(PATIENCE)
        return region

    protected = at.breaker.protect(serve)
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(protected, repeat(REGION, THREADS)))
    return "1, the others wait for it" if all_inside.broken else str(THREADS)
