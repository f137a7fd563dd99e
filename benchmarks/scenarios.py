"""The scenarios of the scoreboard: those of the conformance suite, and two to look at."""

from collections.abc import Awaitable, Callable

from benchmarks.contenders import Contender, RegionBreaker
from benchmarks.storm import over_plain_retry, over_transient_retry
from resilience.testing.conformance.scenarios import (
    async_generator,
    filter_raises,
    half_open_crowd,
    late_failure_in_half_open,
    late_failures_in_new_closed,
    late_success_in_half_open,
    late_success_in_open,
    probe_cancelled,
    probe_hung,
    probe_nested,
    probes_refused,
    retry_error,
    threads_in_closed,
    wall_clock_back,
)
from resilience.testing.conformance.situation import Situation


async def retry_storm(at: Situation) -> str:
    """50 tasks with retries: requests in all, and those that began after OPEN."""
    contender = at.breaker
    assert isinstance(contender, Contender)
    ours = isinstance(contender, RegionBreaker)
    storm = over_transient_retry(contender, "call") if ours else over_plain_retry(contender)
    await storm.run()
    return f"{storm.requests}, {storm.after_open} after OPEN"


async def text_of_a_rejection(at: Situation) -> str:
    """The text of a rejection."""
    await at.open()
    at.clock.advance(18)
    return f"`{await at.call()}`"


SCENARIOS: tuple[Callable[[Situation], Awaitable[str]], ...] = (
    half_open_crowd,
    probe_cancelled,
    probe_hung,
    probe_nested,
    probes_refused,
    filter_raises,
    late_success_in_open,
    late_success_in_half_open,
    late_failure_in_half_open,
    late_failures_in_new_closed,
    retry_error,
    retry_storm,
    wall_clock_back,
    async_generator,
    threads_in_closed,
    text_of_a_rejection,
)
