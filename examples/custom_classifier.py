"""What counts as a failure is yours to say: three classifiers, each for one need.

By default a failure is a status of 500 and up, a time-out or a connection error. Everything else
is IGNORED: it neither adds to the streak of failures nor ends it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger

from resilience import (
    CircuitBreaker,
    CircuitState,
    Outcome,
    classify_error,
    classify_status,
    failures,
)


class HTTPError(Exception):
    """An answer that is an error; the classifiers look at `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class PoolExhausted(Exception):  # noqa: N818 - the names of a library are what they are
    """A driver's own way to say that its server does not answer."""


@dataclass
class Response:
    """An answer of a client that returns a 503 like any other."""

    status: int


def client_error_is_success(error: BaseException) -> Outcome:
    """Whoever says 404 is alive."""
    return Outcome.SUCCESS if 400 <= getattr(error, "status", 0) < 500 else classify_error(error)


def fail(breaker: CircuitBreaker, *errors: Exception) -> CircuitState:
    """Have one call after the other raise these errors."""

    @breaker
    def call(error: Exception) -> None:
        raise error

    for error in errors:
        try:
            call(error)
        except type(error):
            pass
    return breaker.state


def answer(breaker: CircuitBreaker, *statuses: int) -> CircuitState:
    """Have one call after the other return an answer with these statuses."""

    @breaker
    def call(status: int) -> Response:
        return Response(status)

    for status in statuses:
        call(status)
    return breaker.state


def show(text: str, default: CircuitState, own: CircuitState) -> None:
    print(f"{text}\n    by default: {default}\n    with it:    {own}")


def fresh(classifier: Callable[[BaseException], Outcome] = classify_error) -> CircuitBreaker:
    return CircuitBreaker("eu-west-1", classifier=classifier)


def main() -> None:
    logger.disable("resilience")

    by_default = fail(fresh(), *[PoolExhausted()] * 10)
    own = fail(fresh(failures(PoolExhausted)), *[PoolExhausted()] * 10)
    show("failures(PoolExhausted), ten of them:", by_default, own)
    assert (by_default, own) == (CircuitState.CLOSED, CircuitState.OPEN)

    story = [HTTPError(503)] * 9 + [HTTPError(404)] + [HTTPError(503)]
    by_default = fail(fresh(), *story)
    own = fail(fresh(client_error_is_success), *story)
    show("4xx as a SUCCESS, nine 503, one 404, one 503:", by_default, own)
    assert (by_default, own) == (CircuitState.OPEN, CircuitState.CLOSED)

    judging = CircuitBreaker("eu-west-1", result_classifier=classify_status)
    by_default, own = answer(fresh(), *[503] * 10), answer(judging, *[503] * 10)
    show("result_classifier=classify_status, ten answers 503 returned:", by_default, own)
    assert (by_default, own) == (CircuitState.CLOSED, CircuitState.OPEN)
    assert judging.snapshot().reason == "Response 503"


if __name__ == "__main__":
    main()
