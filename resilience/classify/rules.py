"""The rules: did this call fail?

Only server-side failures count, that is 5xx answers, timeouts and connection errors; 4xx never do,
429 included. An error is asked in this order, and the first answer stands: a code of its library,
its HTTP status, its type, then the error that it wraps, at last the one that was being handled when
it was raised. An error that gives no answer is IGNORED, since a bug in the caller's code says
nothing about a region. What is known about client libraries is in `libraries`.
"""

from collections.abc import Generator
from errno import (
    EBADF,
    ECONNABORTED,
    ECONNREFUSED,
    ECONNRESET,
    EHOSTDOWN,
    EHOSTUNREACH,
    ENETDOWN,
    ENETRESET,
    ENETUNREACH,
    ENOTCONN,
    EPIPE,
    ESHUTDOWN,
    ETIMEDOUT,
)
from typing import Any, TypeAlias

from resilience._by_type import ByType
from resilience._interrupts import raise_interrupt
from resilience._introspection import (
    cause_of,
    is_a,
    is_caught_by,
    members_of,
    name_of_class,
)
from resilience._text import one_line
from resilience.classify.known_types import FACTS, GLANCES, SILENT, TypeFacts, is_one_of
from resilience.classify.library import Meaning
from resilience.classify.meaning import meaning_by_itself
from resilience.classify.reading import safe_getattr
from resilience.classify.status import (
    CLIENT_ERROR,
    LARGEST_STATUS,
    NO_ANSWER,
    PROXY_AUTHENTICATION,
    SERVER_ERROR,
    TOO_MANY_REQUESTS,
    is_proxy_down,
    names_throttling,
    status_of,
    without_content,
)
from resilience.classify.this_machine import is_local, is_own_trouble, numbers_of
from resilience.classify.wrapping import handled_error, is_raised_by_library, wrapped_errors
from resilience.errors import CallRejectedError
from resilience.outcome import Outcome

# This many errors are asked what they wrap: the class of an error may make new ones without end.
# Groups are not among them: their members are there already.
_MOST_WRAPPING = 1000

_CONNECTION_FAILS = {
    *(ECONNABORTED, ECONNREFUSED, ECONNRESET, EPIPE, ETIMEDOUT),
    *(EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETRESET, ENETUNREACH, ENOTCONN, ESHUTDOWN),
}

# Reading a member of an enumeration takes 65 ns.
_FAILURE, _ANSWERED, _IGNORED = Outcome.FAILURE, Outcome.ANSWERED, Outcome.IGNORED

_OUTCOMES = {
    Meaning.OUTAGE: _FAILURE,
    Meaning.REFUSAL: _ANSWERED,
    Meaning.THROTTLING: _ANSWERED,
    Meaning.MISUSE: _IGNORED,
    Meaning.LOCAL: _IGNORED,
}

# What an error says; the error that says it, which is itself or one that it wraps; and the HTTP
# status of that one. An outcome of None means that no rule knows the error.
Finding: TypeAlias = tuple[Outcome | None, BaseException, int | None]


def classify_error(error: BaseException) -> Outcome:
    """Classify an exception: the default classifier.

    HTTP status 500 and up, timeouts and connection errors are a FAILURE. Status 400 to 499, except
    407, or what a client has in its place, is ANSWERED. ``tenacity.RetryError`` is judged by its
    last attempt, an error raised ``from`` another by that other if it says nothing itself, and an
    exception group is a FAILURE if any of its errors is, else ANSWERED if any is.

    Args:
        error: What the protected function raised.

    Returns:
        FAILURE, ANSWERED or IGNORED; never SUCCESS.
    """
    return examine(error)[0] or _IGNORED


def classify_status(response: object) -> Outcome:
    """Classify an answer by its HTTP status: for clients that return a 503.

    A result classifier for clients that do not raise for a status.

    Args:
        response: Anything with a ``status``, a ``status_code``, a ``code`` of 400 to 599, or a
            ``response`` that has one; or a tuple whose first item does.

    Returns:
        FAILURE for 500 and up, ANSWERED for 400 to 499 but 407, which is IGNORED, SUCCESS for
        everything else.
    """
    status = status_of(without_content(response))
    if status is None:
        return Outcome.SUCCESS
    return _outcome_of_status(status, below=Outcome.SUCCESS)


def examine(error: BaseException) -> Finding:
    """Find the outcome that an error stands for.

    Most errors are simple: they wrap no other, and say nothing, or have a status by that very name.
    Every other error takes a longer look.
    """
    try:
        glance = GLANCES[type(error)]
        if glance and error.__cause__ is None:
            attributes = error.__dict__
            if not attributes:
                if glance is SILENT and error.__context__ is None:
                    return None, error, None
                return Examination().of(error)
            status: object = attributes.get("status")
            if type(status) is int and _WEIGHS_MORE.isdisjoint(attributes):
                if CLIENT_ERROR <= status < SERVER_ERROR:
                    outcome = _IGNORED if status == PROXY_AUTHENTICATION else _ANSWERED
                    return outcome, error, status
                if SERVER_ERROR <= status <= LARGEST_STATUS:
                    return _FAILURE, error, status
    except BaseException as fault:  # noqa: BLE001 - its metaclass, or a key of its attributes
        raise_interrupt(fault)
    return Examination().of(error)


# What may say more than the status of an error does.
_WEIGHS_MORE = frozenset({"code", "error_code", "last_attempt", "response"})


def root_error(thing: object) -> object:
    """Return the error that speaks for one that wraps it; anything else speaks for itself."""
    return _examine_anything(thing)[0]


def is_throttled(root: BaseException, status: int | None) -> bool:
    """Return whether a server refused a request only because there are too many of them.

    Args:
        root: The error that says it, as `examine` finds it.
        status: Its HTTP status.
    """
    if status == TOO_MANY_REQUESTS or names_throttling(root):
        return True
    facts = FACTS.of(type(root))
    return (meaning_by_itself(root, facts) or facts.meaning) is Meaning.THROTTLING


def describe(thing: object) -> str:
    """Return the type and HTTP status of an error or a result; its text may hold secrets."""
    return describe_as(*_examine_anything(thing))


def _examine_anything(thing: object) -> tuple[object, int | None]:
    """Return what speaks for an error or a result, and its HTTP status."""
    try:
        if is_a(thing, BaseException):
            _, root, status = examine(thing)
            return root, status
        return thing, status_of(thing)
    except BaseException as fault:  # noqa: BLE001 - there may be no stack left to look at it
        raise_interrupt(fault)
        return thing, None


_NAMES = ByType(name_of_class)


def describe_as(root: object, status: int | None) -> str:
    """Return the type of an error or a result, and its HTTP status, which is known."""
    name = _NAMES.of(type(root))
    return one_line(name if status is None else f"{name} {status}")


Types: TypeAlias = tuple[type[BaseException], ...]
# What looks at an error: it yields each error that it has to know about, and is sent the finding.
_Look: TypeAlias = Generator[BaseException, Any, Finding]
_LookInside: TypeAlias = Generator[BaseException, Any, Finding | None]


class Examination:
    """The longer look at one error and all that it wraps.

    It takes as long as there are errors, however they share what they wrap, and it needs no stack
    for a long chain of them.

    Args:
        counted: The types that are failures too.
    """

    def __init__(self, counted: Types = ()) -> None:
        self._counted = counted
        # By identity, with the error itself, which keeps it alive: errors share what they wrap.
        self._findings: dict[int, tuple[BaseException, Finding]] = {}
        self._wrapping = 0

    def of(self, error: BaseException) -> Finding:
        """Find what an error stands for."""
        by_itself = self._look_at_itself(error)
        if by_itself[0] is not None:
            return by_itself
        looks = [self._look_at(error)]
        finding: Finding | None = None
        while looks:
            try:
                looks.append(self._look_at(looks[-1].send(finding)))
                finding = None
            except StopIteration as end:
                finding = end.value
                looks.pop()
        return finding or (None, error, None)

    def _look_at(self, error: BaseException) -> _Look:
        """Look at one error: yields each error that it must know about, and is sent the finding."""
        known = self._findings.get(id(error))
        if known is not None:
            return known[1]
        self._findings[id(error)] = (error, (None, error, None))  # for a circle
        finding = self._look_at_itself(error)
        if finding[0] is None:
            finding = (yield from self._look_inside(error, finding)) or finding
        self._findings[id(error)] = (error, finding)
        return finding

    def _look_at_itself(self, error: BaseException) -> Finding:
        if is_caught_by(error, self._counted):
            return _FAILURE, error, status_of(error)
        if is_a(error, BaseExceptionGroup):
            return None, error, None
        if not is_a(error, Exception) or is_a(error, CallRejectedError):
            return _IGNORED, error, None
        status = status_of(error)
        return _examine_alone(error, FACTS.of(type(error)), status), error, status

    def _look_inside(self, error: BaseException, itself: Finding) -> _LookInside:
        """Look at the errors that an error wraps, or at what was handled when it was raised.

        The latter only where it is a failure.
        """
        is_group = is_a(error, BaseExceptionGroup)
        if not is_group:
            self._wrapping += 1
            if self._wrapping > _MOST_WRAPPING:
                return None
        findings: list[Finding] = []
        for one in members_of(error) if is_group else wrapped_errors(error):
            findings.append((yield one))  # noqa: PERF401 - a comprehension cannot yield
        for outcome in (_FAILURE, _ANSWERED, _IGNORED):
            for finding in findings:
                if finding[0] is outcome:
                    return finding
        handled = handled_error(error)
        if handled is not None:
            found: Finding = yield handled
            if found[0] is _FAILURE:
                return found
        if not is_group and FACTS.of(type(error)).meaning is Meaning.WRAPPER:
            return (_IGNORED if is_local(error) else _FAILURE), error, itself[2]
        return None


def _examine_alone(error: Exception, facts: TypeFacts, status: int | None) -> Outcome | None:
    """Find the outcome of an error by itself, whatever it wraps."""
    if _is_malformed_answer(error, facts):
        return _FAILURE
    meaning = meaning_by_itself(error, facts)
    is_outage = facts.meaning in (Meaning.OUTAGE, Meaning.WRAPPER)
    if meaning is None and status is not None and not (is_outage and 0 < status < CLIENT_ERROR):
        if status >= SERVER_ERROR and names_throttling(error):
            return _ANSWERED
        return _outcome_of_status(status, below=_IGNORED)
    meaning = meaning or facts.meaning or _meaning_to_the_system(error)
    if meaning is Meaning.OUTAGE:
        return _IGNORED if is_local(error) else _FAILURE
    if meaning is None and is_a(error, OSError) and is_own_trouble(error):
        return _IGNORED
    return None if meaning is None else _OUTCOMES.get(meaning)


def _meaning_to_the_system(error: Exception) -> Meaning | None:
    """Return what an error of the operating system, or the end of a stream, means."""
    if is_a(error, EOFError):
        return Meaning.OUTAGE if is_raised_by_library(error) else None
    # asyncio joins the messages where several addresses were tried.
    if is_a(error, OSError) and (
        type(error) is OSError or safe_getattr(error, "errno") is not None
    ):
        numbers = numbers_of(error)
        # A client whose other thread has closed the socket, since the server hung up.
        is_closed = EBADF in numbers and is_raised_by_library(error)
        is_failed = any(number in _CONNECTION_FAILS for number in numbers)
        is_outage = is_closed or is_failed or is_proxy_down(error)
        return Meaning.OUTAGE if is_outage else None
    return None


def _outcome_of_status(status: int, *, below: Outcome) -> Outcome:
    if status >= SERVER_ERROR or status == NO_ANSWER:
        return _FAILURE
    if status == PROXY_AUTHENTICATION:
        return _IGNORED
    return _ANSWERED if status >= CLIENT_ERROR else below


def _is_malformed_answer(error: Exception, facts: TypeFacts) -> bool:
    """Return whether a client made up the status of an answer that it could not parse."""
    if facts.library is None or not facts.library.unparsable:
        return False
    cause = cause_of(error)
    if cause is None:
        return False
    kind = type(cause)
    is_unparsable = FACTS.of(kind).library is facts.library
    is_unparsable = is_unparsable and is_one_of(kind, facts.library.unparsable)
    return is_unparsable and safe_getattr(error, "headers") is None
