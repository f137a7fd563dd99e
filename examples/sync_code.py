"""Code without asyncio: the decorator on a plain function, and a permit around a few lines.

A nightly job uploads ten reports. A plain `def` is decorated in the same way as a coroutine. Where
there is no function to decorate, as in the middle of a loop, `with breaker.acquire():` does the
same: an exception that leaves the block is classified, and a block that ends normally is a success.

The region is down for the first two minutes, by a FakeClock. In the end, every report is uploaded.
"""

from collections import Counter

from loguru import logger

from resilience import (
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
    region_breaker,
)
from resilience.genesys import GenesysRegion
from resilience.testing import FakeClock

BACK_UP_AT = 120.0  # seconds on the clock
REGION = GenesysRegion.AP_SOUTHEAST_2

clock = FakeClock()
circuits = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=3), clock=clock)
uploaded: dict[str, str] = {}  # report -> the URL that it was uploaded to
requests: Counter[float] = Counter()  # by the time on the clock


def post(url: str, report: str) -> None:
    """Stand in for the function of a blocking client, such as requests.post."""
    requests[clock()] += 1
    if clock() < BACK_UP_AT:
        raise ConnectionRefusedError
    uploaded[report] = url


@region_breaker(region_from="region", registry=circuits)
def upload(report: str, region: GenesysRegion) -> None:
    post(region.api_url, report)


def upload_all(reports: list[str]) -> None:
    """Upload one report after the other, and repeat each until it succeeds."""
    url, breaker = REGION.api_url, circuits.get(REGION)
    waiting = list(reports)
    while waiting:
        try:
            with breaker.acquire():
                post(url, waiting[0])
        except CircuitBreakerOpenError as error:
            pause = error.retry_after or 1.0
            print(f"{clock():4.0f} s  {breaker.state}: waiting for {pause:.0f} s")
            clock.advance(pause)  # a real job calls time.sleep(pause)
        except ConnectionRefusedError:
            print(f"{clock():4.0f} s  {waiting[0]} failed")
        else:
            print(f"{clock():4.0f} s  {waiting.pop(0)} uploaded, circuit {breaker.state}")


def main() -> None:
    logger.disable("resilience")
    reports = [f"report {number}" for number in range(1, 11)]
    upload_all(reports)

    print(f"\nrequests by second: {dict(requests)}")
    assert list(uploaded) == reports
    # Three failures open the circuit, one probe fails after 60 s, and all others succeed.
    assert requests == {0.0: 3, 60.0: 1, 120.0: 10}

    upload("one more", region=REGION)
    print(f"the decorated function uploads one more, to {uploaded['one more']}")
    snapshot = circuits.get(REGION).snapshot()
    assert snapshot.state is CircuitState.CLOSED
    assert (snapshot.successes, snapshot.failures) == (11, 4), "both ways use the same circuit"


if __name__ == "__main__":
    main()
