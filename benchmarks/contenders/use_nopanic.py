"""nopanic."""

import inspect
import time
from collections.abc import Callable
from typing import Protocol

import nopanic

from benchmarks.calls import REGION, Function, is_failure
from benchmarks.contenders.base import RECOVERY, SUCCESSES, THRESHOLD, Clock, Contender


class HasRegion(Protocol):
    """Credentials."""

    region: str


class Nopanic(Contender):
    """Its breaker, one for each region by `keyed`."""

    name = "nopanic"
    rejection = nopanic.CircuitOpen
    notes = (
        "it opens at a share of failures in a window of time: here all calls of 30 s, at least ten",
        "one number says how many probes may run at a time and how many successes close it: three",
    )

    def __init__(self, *, threshold: int = THRESHOLD, clock: Clock | None = None) -> None:
        self._threshold = threshold
        self._clock: Callable[[], float] = time.monotonic if clock is None else clock.monotonic
        self._made: dict[str, nopanic.CircuitBreaker] = {}

    def protect(self, fn: Function, path: str = "region") -> Function:
        by_region = nopanic.keyed(self._breaker, key=_key(fn, path), maxsize=10_000)
        return by_region(fn)

    def protect_with_retries(self, fn: Function) -> Function | None:
        return self.protect(nopanic.retry(attempts=5, on=is_failure)(fn))

    def state(self) -> str:
        return self._breaker(REGION).state.upper()

    def _breaker(self, region: str) -> nopanic.CircuitBreaker:
        """Return the breaker of a region, which all functions share."""
        if region not in self._made:
            self._made[region] = nopanic.circuit_breaker(
                failure_threshold=1.0,
                min_calls=self._threshold,
                reset_timeout=RECOVERY,
                half_open_max_calls=SUCCESSES,
                on=is_failure,
                name=region,
                clock=self._clock,
            )
        return self._made[region]


def _key(fn: Callable[..., object], path: str) -> Callable[..., str]:
    """Choose the cheapest function that finds the region in the arguments of a call."""
    if path == "credentials.region":
        return _of_credentials
    return _only if len(inspect.signature(fn).parameters) == 1 else _first


def _only(region: str) -> str:
    return region


def _first(region: str, *_args: object, **_kwargs: object) -> str:
    return region


def _of_credentials(credentials: HasRegion) -> str:
    return credentials.region


CONTENDER = Nopanic
