"""Judge: asks the classifiers of a breaker for the outcome of a call, and survives them."""

from asyncio import CancelledError
from collections.abc import Callable
from typing import Any, NamedTuple

from resilience import log
from resilience.classify import classify_error, describe, describe_as, examine, root_error
from resilience.errors import CircuitBreakerOpenError
from resilience.outcome import (
    ANSWERED,
    IGNORED,
    SUCCESS,
    Classifier,
    Outcome,
    Report,
    ResultClassifier,
)

# Reading a member of an enumeration takes 65 ns.
_FAILURE, _ANSWERED = Outcome.FAILURE, Outcome.ANSWERED
# What a probe reports that was ended from outside.
CANCELLED = "cancelled"
# After this many unknown errors in a row, the breaker may never count anything.
_UNKNOWN_ERRORS_TO_WARN = 100


class Classifiers(NamedTuple):
    """The classifiers of one decorated function; None: those of the breaker."""

    classifier: Classifier | None = None
    result_classifier: ResultClassifier | None = None


class UnknownErrors:
    """Counts the errors in a row that no rule knows.

    Args:
        region: The region, for the log.
        count_outcomes: Returns the number of calls so far that said something about the region:
            one between two errors means that they are not in a row.
    """

    __slots__ = ("_count", "_count_outcomes", "_is_logged", "_outcomes", "_region")

    def __init__(self, region: str, count_outcomes: Callable[[], int]) -> None:
        self._region = region
        self._count_outcomes = count_outcomes
        self._outcomes = 0
        self._count = 0
        self._is_logged = False

    def add(self, error: BaseException) -> None:
        """Count an error, and warn once about a long row of them."""
        # Without the lock: at worst a race makes the warning late, or writes it twice.
        outcomes = self._count_outcomes()
        if outcomes != self._outcomes:
            self._outcomes, self._count, self._is_logged = outcomes, 0, False
        self._count += 1
        if self._count >= _UNKNOWN_ERRORS_TO_WARN and not self._is_logged:
            self._is_logged = True
            log.log_unknown_errors(self._region, self._count, error)


class Judge:
    """Decides the outcome of errors and results.

    Args:
        region: The region, for the log.
        classifier: Classifies exceptions.
        result_classifier: Classifies returned values; None: each is a success.
        unknown_errors: Counts the errors that no rule knows.
    """

    __slots__ = ("_classifier", "_region", "_unknown_errors", "result_classifier")

    def __init__(
        self,
        region: str,
        classifier: Classifier,
        result_classifier: ResultClassifier | None,
        unknown_errors: UnknownErrors,
    ) -> None:
        self._region = region
        self._classifier = classifier
        self.result_classifier = result_classifier
        self._unknown_errors = unknown_errors

    def override(self, classifiers: Classifiers) -> "Judge":
        """Return a judge that asks a function's own classifiers where it has them."""
        return Judge(
            self._region,
            self._classifier if classifiers.classifier is None else classifiers.classifier,
            (
                self.result_classifier
                if classifiers.result_classifier is None
                else classifiers.result_classifier
            ),
            self._unknown_errors,
        )

    def of_error(self, error: BaseException) -> Report:
        """Decide about an error; a cancellation, an exit and a rejection say nothing."""
        if not isinstance(error, Exception) or isinstance(error, CircuitBreakerOpenError):
            return IGNORED
        if self._classifier is not classify_error:
            report = self._ask("classifier", self._classifier, error)
            if report is IGNORED and examine(error)[0] is None:
                self._unknown_errors.add(error)
            return report
        try:
            outcome, root, status = examine(error)
            if outcome is _FAILURE:
                return Report(outcome, describe_as(root, status))
            if outcome is _ANSWERED:
                return ANSWERED
        except Exception as fault:  # noqa: BLE001 - the call's own error must reach the caller
            wrong = log.describe_exception(fault)
            log.log_fault("classifier", classify_error, wrong, self._region)
            return IGNORED
        if outcome is None:
            self._unknown_errors.add(error)
        return IGNORED

    def of_result(self, result: object) -> Report:
        """Decide about a returned value."""
        if self.result_classifier is None:
            return SUCCESS
        return self._ask("result_classifier", self.result_classifier, result)

    def why_ignored(self, what: object) -> str:
        """Return in short what a probe raised or returned that was IGNORED."""
        try:
            root = root_error(what)
            is_over = isinstance(root, CancelledError | GeneratorExit)
            return CANCELLED if is_over else describe(what)
        except Exception:  # noqa: BLE001 - as for a classifier: the call's own error goes first
            return ""

    def _ask(self, role: str, classifier: Callable[[Any], Outcome], what: object) -> Report:
        try:
            outcome = classifier(what)
            if outcome is Outcome.FAILURE:
                return Report(outcome, describe(what))
            if outcome is Outcome.ANSWERED:
                return ANSWERED
            if isinstance(outcome, Outcome):
                return SUCCESS if outcome is Outcome.SUCCESS else IGNORED
            wrong = f"returned a {type(outcome).__name__}, expected an Outcome"
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as fault:  # noqa: BLE001 - the call's own error must reach the caller
            wrong = log.describe_exception(fault)
        log.log_fault(role, classifier, wrong, self._region)
        return IGNORED
