"""Retries inside or outside of the circuit breaker: what each order does, in numbers.

Both orders run against a region that is down, with up to five attempts per call:

breaker outside   A call counts once, however many attempts it makes. A short fault that a retry
                  repairs does not count. The price: it takes more requests to open the circuit.
                  The retries stop when it opens, and a probe makes one request.
transient_retry   The same order, with settings that suit an API. Optionally, each attempt counts,
                  which opens the circuit sooner.
retry outside     Each attempt goes through the circuit breaker and counts. The circuit opens
                  sooner, in the middle of a call, and short faults count. The retry must not
                  retry a rejection, or the call is rejected again and again.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_none

from resilience import CircuitBreaker, CircuitBreakerOpenError, Outcome, classify_error
from resilience.retry import transient_retry
from resilience.testing import FakeClock

CALLS = 20


def is_outage(error: BaseException) -> bool:
    """Retry what the circuit breaker counts, which a CircuitBreakerOpenError is not."""
    return classify_error(error) is Outcome.FAILURE


# A real worker waits between its attempts, as transient_retry does by default.
five_attempts = retry(
    stop=stop_after_attempt(5), wait=wait_none(), retry=retry_if_exception(is_outage), reraise=True
)
any_error_five_times = retry(stop=stop_after_attempt(5), wait=wait_none(), reraise=True)


@dataclass
class Run:
    """The numbers of one order: twenty calls to a region that is down, a probe, short faults."""

    opened_by_call: int = 0
    requests: int = 0
    failed: int = 0
    rejected: int = 0
    rejections: int = 0  # by the breaker; more than `rejected` if rejections are retried
    probe: int = 0  # requests that one probe made
    short_faults: int = 0  # failures counted in calls that succeeded in the end


def breaker_outside(breaker: CircuitBreaker, request: Callable[[], None]) -> Callable[[], None]:
    @breaker
    @five_attempts
    def send() -> None:
        request()

    return send


def transient(breaker: CircuitBreaker, request: Callable[[], None]) -> Callable[[], None]:
    @breaker
    @transient_retry(wait=wait_none())
    def send() -> None:
        request()

    return send


def transient_per_attempt(
    breaker: CircuitBreaker, request: Callable[[], None]
) -> Callable[[], None]:
    @breaker
    @transient_retry(wait=wait_none(), count_per="attempt")
    def send() -> None:
        request()

    return send


def retry_outside(breaker: CircuitBreaker, request: Callable[[], None]) -> Callable[[], None]:
    @five_attempts
    @breaker
    def send() -> None:
        request()

    return send


def retry_outside_of_any_error(
    breaker: CircuitBreaker, request: Callable[[], None]
) -> Callable[[], None]:
    @any_error_five_times
    @breaker
    def send() -> None:
        request()

    return send


Stack = Callable[[CircuitBreaker, Callable[[], None]], Callable[[], None]]


def run(stack: Stack) -> Run:
    clock = FakeClock()
    breaker = CircuitBreaker("eu-west-1", clock=clock)
    requests: list[float] = []

    def request() -> None:
        requests.append(clock())
        raise ConnectionResetError

    send, result = stack(breaker, request), Run()
    for call in range(1, CALLS + 1):
        try:
            send()
        except CircuitBreakerOpenError:
            result.rejected += 1
        except ConnectionResetError:
            result.failed += 1
        if not result.opened_by_call and breaker.state == "OPEN":
            result.opened_by_call = call
    result.requests = len(requests)
    result.rejections = breaker.snapshot().rejected

    clock.advance(60)
    try:
        send()
    except (CircuitBreakerOpenError, ConnectionResetError):
        result.probe = len(requests) - result.requests
    result.short_faults = count_short_faults(stack)
    return result


def count_short_faults(stack: Stack) -> int:
    """Return how many failures the breaker counts if every other request fails."""
    breaker = CircuitBreaker("eu-west-1")
    fails = itertools.cycle([True, False])

    def request() -> None:
        if next(fails):
            raise ConnectionResetError

    send = stack(breaker, request)
    for _ in range(CALLS):
        send()
    return breaker.snapshot().failures


def main() -> None:
    logger.disable("resilience")
    runs = {
        "breaker outside": run(breaker_outside),
        "... over transient_retry": run(transient),
        "... counting per attempt": run(transient_per_attempt),
        "retry outside": run(retry_outside),
        "... and retries any error": run(retry_outside_of_any_error),
    }
    columns = ("opened by", "requests", "failed", "rejected", "rejections", "probe", "short faults")
    print(f"{CALLS} calls to a region that is down, up to 5 attempts each, threshold 10:\n")
    print(f"{'':26}" + "".join(f"{name:>{len(name) + 2}}" for name in columns))
    for name, result in runs.items():
        cells = (f"call {result.opened_by_call}", *list(vars(result).values())[1:])
        row = zip(cells, columns, strict=True)
        print(f"{name:26}" + "".join(f"{cell:>{len(column) + 2}}" for cell, column in row))
    print(LEGEND)

    outside, preset, by_attempt, inside, any_error = runs.values()
    assert outside == Run(10, 50, failed=10, rejected=10, rejections=10, probe=1, short_faults=0)
    assert preset == Run(10, 50, failed=10, rejected=10, rejections=10, probe=1, short_faults=0)
    assert by_attempt == Run(2, 10, failed=2, rejected=18, rejections=18, probe=1, short_faults=20)
    assert inside == Run(2, 10, failed=2, rejected=18, rejections=18, probe=1, short_faults=20)
    assert any_error == Run(2, 10, failed=2, rejected=18, rejections=90, probe=1, short_faults=20)


LEGEND = """
failed        calls that ended with the region's own error
rejected      calls that ended with the breaker's error
rejections    by the breaker, including those that were retried
probe         requests that one probe made
short faults  failures counted in 20 calls that each succeeded at the second attempt"""


if __name__ == "__main__":
    main()
