"""interlock-cb."""

import interlock

from benchmarks.calls import REGION, Function, is_failure
from benchmarks.contenders.base import RECOVERY, SUCCESSES, THRESHOLD, Clock, Contender


class Interlock(Contender):
    """A breaker of its registry, as a decorator."""

    name = "interlock-cb"
    rejection = interlock.CircuitOpenError
    notes = (
        "it opens at a share of failures in a window: here all of the last ten calls",
        "the same share decides about the three probes: it opens again only if all of them fail",
    )

    def __init__(self, *, threshold: int = THRESHOLD, clock: Clock | None = None) -> None:
        config = interlock.Config(
            failure_rate_threshold=1.0,
            minimum_number_of_calls=threshold,
            window_size=threshold,
            permitted_calls_in_half_open=SUCCESSES,
            wait_duration_in_open=RECOVERY,
        )
        registry = interlock.Registry(config=config, classifier=_Classifier(), clock=clock)
        self.breaker = registry.get(REGION)

    def protect(self, fn: Function, path: str = "region") -> Function:
        del path
        return self.breaker(fn)

    def state(self) -> str:
        return str(self.breaker.state.value).upper()


class _Classifier:
    def is_failure(self, *, result: object, exception: Exception | None) -> bool:
        del result
        return exception is not None and is_failure(exception)


CONTENDER = Interlock
