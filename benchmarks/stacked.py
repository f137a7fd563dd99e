"""Question (g): what a breaker adds to a call that tenacity retries."""

from typing import Any

from tenacity import retry, stop_after_attempt, wait_exponential

from benchmarks.contenders import Contender, RegionBreaker
from benchmarks.floors import send, send_now
from benchmarks.loops import successes, sync_successes
from benchmarks.question import OURS, Question, contenders
from benchmarks.rounds import Case
from resilience.retry import transient_retry

ALONE = "tenacity alone"
GATED = f"{OURS}, over `transient_retry`"


def with_retries(fn: Any) -> Any:
    """Decorate with tenacity, with the numbers of the mission's retry layer."""
    return retry(stop=stop_after_attempt(5), wait=wait_exponential(max=32), reraise=True)(fn)


def stacked() -> Question:
    """For coroutines."""

    def loop(contender: Contender) -> Any:
        return successes(contender.protect(with_retries(send)))

    cases, left_out = contenders(loop)
    gated = RegionBreaker().protect(transient_retry()(send))
    cases += [Case(ALONE, successes(with_retries(send))), Case(GATED, successes(gated))]
    title = "(g) A success through tenacity, `async def`"
    return Question(title, ALONE, cases, left_out)


def stacked_sync() -> Question:
    """For plain functions."""

    def loop(contender: Contender) -> Any:
        return sync_successes(contender.protect_sync(with_retries(send_now)))

    cases, left_out = contenders(loop)
    gated = RegionBreaker().protect_sync(transient_retry()(send_now))
    cases += [
        Case(ALONE, sync_successes(with_retries(send_now))),
        Case(GATED, sync_successes(gated)),
    ]
    return Question("(g) A success through tenacity, `def`", ALONE, cases, left_out)
