"""The loops that `make bench-count` counts, as a program that runs under valgrind.

It needs nothing but the package and tenacity: the project's own environment can run it. Each loop
runs with a number of calls and then with twice as many. The difference is what the calls take,
without what surrounds the loop.

    python -m benchmarks.paths CALLS
"""

import gc
import os
import sys
from collections.abc import Callable
from functools import partial

from loguru import logger
from tenacity import wait_none

from benchmarks.calls import HttpError, down, fails_first, send, send_now, with_tenacity
from benchmarks.circuits import ending_streaks, shared
from benchmarks.contenders.ours import RegionBreaker
from benchmarks.kinds import (
    KINDS,
    empty_wrapper,
    over_transient_retry,
    over_transient_retry_def,
    transient_retry_alone,
    transient_retry_alone_def,
    with_rates,
)
from benchmarks.loops import Run, awaiting, calling, raising
from benchmarks.tenants import (
    with_tenant,
    with_tenant_by_path,
    with_tenant_def,
    with_tenant_over_transient_retry,
)
from resilience import CircuitBreakerOpenError
from resilience.retry import transient_retry

WARM_UP = 150  # the 100th unknown error in a row logs a warning, which is not what is counted


def rejected_by_a_shared_circuit() -> Run:
    """Make a loop of rejections by a circuit that other processes share."""
    fn = shared(down)
    raising(fn, HttpError)(10)
    return raising(fn, CircuitBreakerOpenError)


def second_attempt_succeeds() -> Run:
    """Make a loop of calls whose first attempt fails, and whose second one does not."""
    retries = transient_retry(wait=wait_none(), sleep=no_sleep)
    return awaiting(RegionBreaker().protect(retries(fails_first())))


async def no_sleep(_seconds: float) -> None:
    """Stand in for the sleep of a loop: what the sleep costs is not the question."""


#: Each makes its loop when it is counted.
PATHS: dict[str, Callable[[], Run]] = {
    "bare function": lambda: awaiting(send),
    "bare function, def": lambda: calling(send_now),
    "tenacity alone": lambda: awaiting(with_tenacity(send)),
    "tenacity alone, def": lambda: calling(with_tenacity(send_now)),
    **{name: partial(kind.protected, RegionBreaker) for name, kind in KINDS.items()},
    "success that ends a streak": ending_streaks,
    "success, shared": lambda: awaiting(shared(send)),
    "rejection, shared": rejected_by_a_shared_circuit,
    "success over transient_retry": over_transient_retry,
    "success over transient_retry, def": over_transient_retry_def,
    "transient_retry alone": transient_retry_alone,
    "transient_retry alone, def": transient_retry_alone_def,
    "success with a tenant": with_tenant,
    "success with a tenant, dotted paths": with_tenant_by_path,
    "success with a tenant, def": with_tenant_def,
    "success with a tenant, over transient_retry": with_tenant_over_transient_retry,
    "an empty wrapper": lambda: awaiting(empty_wrapper(send)),
    "success with rates": with_rates,
    "a second attempt succeeds": second_attempt_succeeds,
}


def main(number: int) -> None:
    """Run every loop, once with this number of calls and once with twice as many."""
    logger.remove()
    gc.disable()  # when a collection runs depends on what was allocated before
    mark = os.getppid  # valgrind writes down its count, and starts a new one, at each call
    for make in PATHS.values():
        run = make()
        run(WARM_UP)
        mark()
        run(number)
        mark()
        run(2 * number)
        mark()


if __name__ == "__main__":
    main(int(sys.argv[1]))
