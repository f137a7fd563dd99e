"""Custom classifiers: three ways to change what counts as a failure.

By default, a failure is an HTTP status of 500 and up, a timeout or a connection error. A 4xx is
ANSWERED: it neither extends the streak of failures nor ends it, but helps to close a circuit that
is probed. All other errors are IGNORED.
"""

from collections.abc import Callable, Sequence
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
    """An error response; classifiers look at its `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class ServerGone(Exception):  # noqa: N818 - stands for a library, which chooses its own names
    """Raised by a driver when its server does not respond."""


@dataclass
class Response:
    """A response of a client that returns a 503 instead of raising."""

    status: int


def client_error_is_success(error: BaseException) -> Outcome:
    """Count a 4xx as a SUCCESS, which ends the streak of failures."""
    outcome = classify_error(error)
    return Outcome.SUCCESS if outcome is Outcome.ANSWERED else outcome


def fail(breaker: CircuitBreaker, errors: Sequence[Exception]) -> CircuitState:
    """Make calls that raise these errors, and return the state after them."""

    @breaker
    def call(error: Exception) -> None:
        raise error

    for error in errors:
        try:
            call(error)
        except type(error):
            pass
    return breaker.state


def respond(breaker: CircuitBreaker, statuses: list[int]) -> CircuitState:
    """Make calls that return these statuses, and return the state after them."""

    @breaker
    def call(status: int) -> Response:
        return Response(status)

    for status in statuses:
        call(status)
    return breaker.state


def show(case: str, by_default: CircuitState, customized: CircuitState) -> None:
    print(f"{case}\n    by default: {by_default}\n    customized: {customized}")


def new_breaker(classifier: Callable[[BaseException], Outcome] = classify_error) -> CircuitBreaker:
    return CircuitBreaker("eu-west-1", classifier=classifier)


def count_an_exception_type() -> None:
    errors = [ServerGone()] * 10
    by_default = fail(new_breaker(), errors)
    customized = fail(new_breaker(failures(ServerGone)), errors)
    show("ten ServerGone errors, with classifier=failures(ServerGone):", by_default, customized)
    assert (by_default, customized) == (CircuitState.CLOSED, CircuitState.OPEN)


def count_client_errors_as_success() -> None:
    errors = [HTTPError(503)] * 9 + [HTTPError(404)] + [HTTPError(503)]
    by_default = fail(new_breaker(), errors)
    customized = fail(new_breaker(client_error_is_success), errors)
    show("nine 503, one 404, one 503, with 4xx as a SUCCESS:", by_default, customized)
    assert (by_default, customized) == (CircuitState.OPEN, CircuitState.CLOSED)


def count_returned_responses() -> None:
    breaker = CircuitBreaker("eu-west-1", result_classifier=classify_status)
    by_default = respond(new_breaker(), [503] * 10)
    customized = respond(breaker, [503] * 10)
    show("ten returned 503, with result_classifier=classify_status:", by_default, customized)
    assert (by_default, customized) == (CircuitState.CLOSED, CircuitState.OPEN)
    assert breaker.snapshot().reason == "Response 503"


def main() -> None:
    logger.disable("resilience")
    count_an_exception_type()
    count_client_errors_as_success()
    count_returned_responses()


if __name__ == "__main__":
    main()
