"""Judge: asks the classifiers of a breaker for the outcome of a call, and survives them."""

from asyncio import CancelledError
from collections.abc import Callable
from typing import Any, NamedTuple

from resilience import log
from resilience._interrupts import raise_interrupt
from resilience._introspection import is_a, type_name
from resilience._validate import discard
from resilience.circuit_name import CircuitName
from resilience.classify import (
    CountTypes,
    classify_error,
    describe,
    describe_as,
    examine,
    root_error,
)
from resilience.errors import CallRejectedError
from resilience.hints import Hints
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


class Classifiers(NamedTuple):
    """The classifiers of one decorated function; None: those of the breaker."""

    classifier: Classifier | None = None
    result_classifier: ResultClassifier | None = None
    #: What else the function decides for its calls: whether the loops that are found on it stop.
    stops_found_loops: bool = True


class Judge:
    """Decides the outcome of errors and results.

    Args:
        name: The name of the circuit, for the log.
        classifier: Classifies exceptions.
        result_classifier: Classifies returned values; None: each is a success.
    """

    __slots__ = ("_classifier", "_name", "result_classifier")

    def __init__(
        self,
        name: CircuitName,
        classifier: Classifier,
        result_classifier: ResultClassifier | None,
    ) -> None:
        self._name = name
        self._classifier = classifier
        self.result_classifier = result_classifier

    def override(self, classifiers: Classifiers) -> "Judge":
        """Return a judge that asks a function's own classifiers where it has them."""
        return Judge(
            self._name,
            self._classifier if classifiers.classifier is None else classifiers.classifier,
            (
                self.result_classifier
                if classifiers.result_classifier is None
                else classifiers.result_classifier
            ),
        )

    def of_error(self, error: BaseException, hints: Hints | None = None) -> Report:
        """Decide about an error; a cancellation, an exit and a rejection say nothing.

        Args:
            error: The error.
            hints: Where to note it if it has ended a call; None: it has not, or is noted already.
        """
        kind = type(error)
        is_asked = issubclass(kind, Exception) and not issubclass(kind, CallRejectedError)
        if not is_asked and not self._counts_ending(error):
            if hints is not None:
                hints.abandoned_calls.add(error)
            return IGNORED
        if self._classifier is not classify_error:
            report = self._ask("classifier", self._classifier, error)
            if hints is not None and report is IGNORED and _is_unknown(error):
                hints.unknown_errors.add(error)
            return report
        try:
            outcome, root, status = examine(error)
            if outcome is _FAILURE:
                return Report(outcome, describe_as(root, status))
            if outcome is _ANSWERED:
                return ANSWERED
        except BaseException as fault:  # noqa: BLE001 - the call's own error must reach the caller
            raise_interrupt(fault)
            wrong = log.describe_exception(fault)
            log.log_fault("classifier", classify_error, wrong, self._name)
            return IGNORED
        if outcome is None and hints is not None:
            hints.unknown_errors.add(error)
        return IGNORED

    def _counts_ending(self, error: BaseException) -> bool:
        """Return whether an error counts that is not an `Exception`, or a rejection."""
        own = self._classifier
        return isinstance(own, CountTypes) and own.counts_base_exception(error)

    def of_result(self, result: object) -> Report:
        """Decide about a returned value."""
        if self.result_classifier is None:
            return SUCCESS
        return self._ask("result_classifier", self.result_classifier, result)

    def why_ignored(self, what: object) -> str:
        """Return in short what a probe raised or returned that was IGNORED."""
        is_over = is_a(root_error(what), CancelledError, GeneratorExit)
        return CANCELLED if is_over else describe(what)

    def _ask(self, role: str, classifier: Callable[[Any], Outcome], what: object) -> Report:
        try:
            outcome = classifier(what)
            if outcome is Outcome.FAILURE:
                return Report(outcome, describe(what))
            if outcome is Outcome.ANSWERED:
                return ANSWERED
            if is_a(outcome, Outcome):
                return SUCCESS if outcome is Outcome.SUCCESS else IGNORED
            wrong = f"returned a {type_name(outcome)}, expected an Outcome"
            discard(outcome)
        except BaseException as fault:  # noqa: BLE001 - the call's own error must reach the caller
            raise_interrupt(fault)
            wrong = log.describe_exception(fault)
        log.log_fault(role, classifier, wrong, self._name)
        return IGNORED


def _is_unknown(error: BaseException) -> bool:
    """Return whether no rule knows an error."""
    try:
        return examine(error)[0] is None
    except BaseException as fault:  # noqa: BLE001 - the call's own error must reach the caller
        raise_interrupt(fault)
        return False
