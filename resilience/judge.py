"""Judge: asks the classifiers of a breaker for the outcome of a call, and survives them."""

from asyncio import CancelledError
from collections.abc import Callable
from typing import Any, NamedTuple

from resilience import log, scope
from resilience._interrupts import raise_interrupt
from resilience._introspection import is_a, type_name
from resilience._validate import discard
from resilience.answers import requested_delay
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
from resilience.mode import Mode
from resilience.outcome import (
    ABANDONED,
    ANSWERED,
    IGNORED,
    SUCCESS,
    Classifier,
    DelayingReport,
    Outcome,
    Report,
    ResultClassifier,
)
from resilience.policy import BreakerPolicy

# Reading a member of an enumeration takes 65 ns.
_FAILURE, _ANSWERED = Outcome.FAILURE, Outcome.ANSWERED
_BY_THE_CALLER = "reported by the caller"
# What a probe reports that was ended from outside.
CANCELLED = "cancelled"


class Classifiers(NamedTuple):
    """The classifiers of one decorated function; None: those of the breaker."""

    classifier: Classifier | None = None
    result_classifier: ResultClassifier | None = None
    #: What else the function decides for its calls: whether the loops that are found on it stop.
    stops_found_loops: bool = True
    #: The type of the error that ends a call by the `call_timeout`.
    timeout_error: type[TimeoutError] = TimeoutError


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
        return self.with_classifiers(
            self._classifier if classifiers.classifier is None else classifiers.classifier,
            (
                self.result_classifier
                if classifiers.result_classifier is None
                else classifiers.result_classifier
            ),
        )

    def with_classifiers(
        self, classifier: Classifier, result_classifier: ResultClassifier | None
    ) -> "Judge":
        """Return a judge that is the same but for its classifiers."""
        return Judge(self._name, classifier, result_classifier)

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

    def of_failure(self, error: BaseException | None) -> Report:
        """Describe a failure that a caller reports; no classifier is asked."""
        return Report(_FAILURE, _BY_THE_CALLER if error is None else describe(error))

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


class IdleJudge(Judge):
    """Judges no call, for a circuit that is switched off, and answers other questions as always."""

    __slots__ = ()

    def with_classifiers(
        self, classifier: Classifier, result_classifier: ResultClassifier | None
    ) -> Judge:
        """Return a judge that is the same but for its classifiers."""
        return IdleJudge(self._name, classifier, result_classifier)

    def of_error(self, error: BaseException, hints: Hints | None = None) -> Report:
        """Ignore the error of a call, unless somebody else wants to know what it says."""
        is_asked = hints is None or scope.watched_outcomes.get() is not None
        return super().of_error(error) if is_asked else IGNORED

    def of_result(self, result: object) -> Report:  # noqa: ARG002 - as every judge has it
        """Leave a returned value alone."""
        return SUCCESS


class DetailedJudge(Judge):
    """Reports more about calls, for a circuit whose policy asks for it.

    It reads the delay that a server asks for with a failure, and tells abandoned calls apart from
    others that are IGNORED.

    Args:
        name: The name of the circuit, for the log.
        classifier: Classifies exceptions.
        result_classifier: Classifies returned values; None: each is a success.
        policy: What it asks for.
    """

    __slots__ = ("_policy",)

    def __init__(
        self,
        name: CircuitName,
        classifier: Classifier,
        result_classifier: ResultClassifier | None,
        policy: BreakerPolicy,
    ) -> None:
        super().__init__(name, classifier, result_classifier)
        self._policy = policy

    def with_classifiers(
        self, classifier: Classifier, result_classifier: ResultClassifier | None
    ) -> Judge:
        """Return a judge that is the same but for its classifiers."""
        return DetailedJudge(self._name, classifier, result_classifier, self._policy)

    def of_error(self, error: BaseException, hints: Hints | None = None) -> Report:
        """Decide about an error."""
        report = super().of_error(error, hints)
        is_counted = self._policy.abandoned_threshold is not None
        if is_counted and report is IGNORED and _is_abandonment(error):
            return ABANDONED
        return self._with_delay(report, error)

    def of_result(self, result: object) -> Report:
        """Decide about a returned value."""
        return self._with_delay(super().of_result(result), result)

    def of_failure(self, error: BaseException | None) -> Report:
        """Describe a failure that a caller reports."""
        return self._with_delay(super().of_failure(error), error)

    def _with_delay(self, report: Report, answer: object) -> Report:
        """Return a report that carries the delay that an answer asks for, if it is a failure."""
        is_read = self._policy.honor_retry_after and report.outcome is _FAILURE
        asked = requested_delay(answer) if is_read else None
        if asked is None:
            return report
        delaying = DelayingReport(*report)
        delaying.retry_after = asked
        return delaying


def make_judge(
    policy: BreakerPolicy,
    name: CircuitName,
    classifier: Classifier,
    result_classifier: ResultClassifier | None,
) -> Judge:
    """Return the judge that a policy needs."""
    if policy.mode_in_force is Mode.OFF:
        return IdleJudge(name, classifier, result_classifier)
    if policy.honor_retry_after or policy.abandoned_threshold is not None:
        return DetailedJudge(name, classifier, result_classifier, policy)
    return Judge(name, classifier, result_classifier)


def _is_abandonment(error: BaseException) -> bool:
    """Return whether a call was ended from outside, and the process goes on."""
    return not is_a(error, Exception, KeyboardInterrupt, SystemExit)


def _is_unknown(error: BaseException) -> bool:
    """Return whether no rule knows an error."""
    try:
        return examine(error)[0] is None
    except BaseException as fault:  # noqa: BLE001 - the call's own error must reach the caller
        raise_interrupt(fault)
        return False
