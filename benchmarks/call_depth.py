"""Count the files and functions of the package that one call passes through.

    make call-depth                      into docs/explanation/where-the-time-goes.md
    make call-depth ARGS=--names         their names, printed only

A function counts once, however often it runs. Each comprehension or generator in it counts too: a
reader has to look at all of them.
"""

import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import CodeType, FrameType
from typing import TypeAlias, cast

from loguru import logger

import resilience
from benchmarks import report
from benchmarks.calls import REGION, HttpError, Send
from resilience import BreakerPolicy, CircuitBreakerRegistry, CircuitState, region_breaker
from resilience.retry import transient_retry

PAGE = "docs/explanation/where-the-time-goes.md"
PACKAGE = Path(resilience.__file__).parent
RECOVERY = 60.0

#: The code of the package that a call entered, in the order of the first entry.
Entered: TypeAlias = list[CodeType]


class Server:
    """A protected function of one region, with a clock that is moved by hand.

    Args:
        threshold: The number of failures that open the circuit.
        retries: Whether the function retries.
    """

    def __init__(self, *, threshold: int = 10, retries: bool = False) -> None:
        self.now = 1_000.0
        self.is_down = False
        policy = BreakerPolicy(failure_threshold=threshold, recovery_timeout=RECOVERY)
        registry = CircuitBreakerRegistry(policy, clock=lambda: self.now)
        self.breaker = registry.get(REGION)

        async def send(region: str) -> str:
            if self.is_down:
                raise HttpError(503)
            return region

        fn: Send = transient_retry()(send) if retries else send
        self._protected = region_breaker(region_from="region", registry=registry)(fn)
        self.call()  # the first call of a region makes its breaker known

    def call(self) -> None:
        """Make one call, which never waits."""
        call = cast("Coroutine[object, object, str]", self._protected(REGION))
        try:
            call.send(None)
        except (StopIteration, HttpError):
            return
        raise AssertionError("the call waited for something")

    def half_open(self) -> None:
        """Open the circuit, and let the recovery timeout pass."""
        self.breaker.acquire().fail()
        self.now += RECOVERY
        assert self.breaker.state is CircuitState.HALF_OPEN

    def trace(self) -> Entered:
        """Make one call, and note what it enters."""
        entered: dict[CodeType, None] = {}

        def note(frame: FrameType, event: str, _: object) -> None:
            if event == "call" and PACKAGE in Path(frame.f_code.co_filename).parents:
                entered.setdefault(frame.f_code)

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            self.call()
        finally:
            sys.setprofile(before)
        return list(entered)


def success() -> Entered:
    """A success."""
    server = Server()
    entered = server.trace()
    assert server.breaker.snapshot().successes == 2
    return entered


def failure() -> Entered:
    """A failure."""
    server = Server()
    server.is_down = True
    entered = server.trace()
    assert server.breaker.snapshot().failures == 1
    return entered


def probe() -> Entered:
    """A probe that succeeds."""
    server = Server(threshold=1)
    server.half_open()
    entered = server.trace()
    assert server.breaker.snapshot().probes == 1
    return entered


def failing_probe_with_retries() -> Entered:
    """A probe that fails, with `transient_retry` inside."""
    server = Server(threshold=1, retries=True)
    server.half_open()
    server.is_down = True
    entered = server.trace()
    assert server.breaker.state is CircuitState.OPEN
    return entered


KINDS: tuple[Callable[[], Entered], ...] = (success, failure, probe, failing_probe_with_retries)


def depth(entered: Entered) -> tuple[int, int]:
    """Return the number of files and the number of functions."""
    return len({code.co_filename for code in entered}), len(entered)


def main(arguments: list[str]) -> None:
    """Write the table, or print the names."""
    logger.remove()
    for kind in KINDS:
        kind()  # the first error of a type is looked at longer
    if arguments == ["--names"]:
        for kind in KINDS:
            print(kind.__doc__)
            for code in kind():
                print(f"    {Path(code.co_filename).relative_to(PACKAGE)}: {code.co_qualname}")
        return
    rows = [((kind.__doc__ or "").rstrip("."), *map(str, depth(kind()))) for kind in KINDS]
    report.write_section(PAGE, "make call-depth", report.table(("", "files", "functions"), rows))


if __name__ == "__main__":
    main(sys.argv[1:])
