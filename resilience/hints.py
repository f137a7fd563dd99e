"""Hints: one WARNING where a circuit stays CLOSED although it may be meant to open.

A circuit opens by what it counts. Two mistakes keep it from counting anything while its region is
down: the client raises a type of error that no rule knows, or the timeout is around the protected
function, where it looks like any other cancellation. Both show in calls that are IGNORED, so that
only these pay for the hints, and a success pays nothing.

Everything here is done without the lock. At worst a race makes a hint late, or gives it twice.
"""

import asyncio
import weakref
from collections import Counter, deque

from resilience import log
from resilience._interrupts import raise_interrupt
from resilience._introspection import name_of_class, qualified_name, type_name
from resilience._text import one_line
from resilience.circuit import Circuit, Closed
from resilience.circuit_name import CircuitName
from resilience.classify import failures, full_name, says_client_errors

# This many unknown errors among this many calls: the breaker may never count anything.
_UNKNOWN_ERRORS, _AMONG_CALLS = 100, 200
# Once they are spread over more calls than this, the situation has ended: the next is a new one.
_CALLS_WHEN_OVER = 1000
# Of the types of one situation, this many are named: types may be made at run time, without end.
_MOST_NAMED = 5

# This many abandoned calls in a row: the timeout may be in the wrong place.
_ABANDONED_CALLS = 100
# They must be spread over this many moments: a shutdown cancels all calls at the same time.
_MOMENTS = 10
# After this many calls that said something about the region, there may be another warning.
_ANSWERS_WHEN_OVER = 100

_NO_ERRORS: deque[tuple[int, type]] = deque(maxlen=0)  # for the many breakers that never have one


class Hints:
    """The hints about the calls of one circuit.

    Args:
        name: The name of the circuit, for the log.
        circuit: Counts the calls. While it is not CLOSED, nothing is noted.
    """

    __slots__ = ("abandoned_calls", "unknown_errors")

    def __init__(self, name: CircuitName, circuit: Circuit) -> None:
        #: The errors that no rule knows.
        self.unknown_errors = UnknownErrors(name, circuit)
        #: The calls that were ended from outside.
        self.abandoned_calls = AbandonedCalls(name, circuit)


class UnknownErrors:
    """Warns when 100 of the last 200 calls ended in an error that no rule knows.

    The warning comes once for each type that is the most frequent one. It comes again after an
    outage, or when the errors have been rare in between: fewer than 100 among 1,000 calls.

    Args:
        name: The name of the circuit, for the log.
        circuit: Counts the calls.
    """

    __slots__ = ("_circuit", "_closed", "_name", "_named", "_recent")

    def __init__(self, name: CircuitName, circuit: Circuit) -> None:
        self._name = name
        self._circuit = circuit
        # The state that the rest is about; None: there was no such error yet.
        self._closed: Closed | None = None
        # How many calls had ended before each of the last 100 errors, and its type.
        self._recent: deque[tuple[int, type]] = _NO_ERRORS
        # The types that a warning has named.
        self._named: set[type] = set()

    def add(self, error: BaseException) -> None:
        """Note an error, before its call is counted as one that has ended."""
        closed = self._closed
        if closed is not self._circuit.state:
            closed = self._begin()
        if closed is None:
            return
        kind, recent = type(error), self._recent
        ended = closed.successes + closed.failures + closed.answered + closed.ignored
        recent.append((ended, kind))
        others = ended - recent[0][0]
        if others >= _AMONG_CALLS:
            if others >= _CALLS_WHEN_OVER:
                self._named.clear()
            return
        try:
            is_named = kind in self._named
        except BaseException as fault:  # noqa: BLE001 - a metaclass may not be hashable
            raise_interrupt(fault)
            return  # no hint can name it
        if not is_named and len(recent) == _UNKNOWN_ERRORS:
            self._warn(others + 1, [kind for _, kind in recent.copy()])

    def _begin(self) -> Closed | None:
        """Forget what was noted, since the circuit is in a new state; None: it is not CLOSED."""
        state = self._circuit.state
        if not isinstance(state, Closed):
            return None
        self._named.clear()
        self._recent = deque(maxlen=_UNKNOWN_ERRORS)
        self._closed = state  # last: another thread that sees it needs the room for its errors
        return state

    def _warn(self, among: int, kinds: list[type]) -> None:
        try:
            [(kind, _)] = Counter(kinds).most_common(1)
            if kind not in self._named and len(self._named) < _MOST_NAMED:
                self._named.add(kind)
                name, advice = full_name(kind), _how_to_count(kind)
                log.log_unknown_errors(self._name, len(kinds), among, name, advice)
        except BaseException as fault:  # noqa: BLE001 - a type may be made in any way
            raise_interrupt(fault)  # and must not replace the call's own error


class AbandonedCalls:
    """Warns when 100 calls in a row were ended from outside, with no answer between them.

    The calls that end in the same turn of an event loop are one moment, and 100 calls of fewer than
    ten moments are not enough: a shutdown cancels everything that runs at the same time. Outside
    asyncio, each call is a moment of its own. The warning may come again after 100 calls that said
    something about the region.

    Args:
        name: The name of the circuit, for the log.
        circuit: Counts the calls.
    """

    __slots__ = (
        "__weakref__",
        "_answers",
        "_calls",
        "_circuit",
        "_moment_of",
        "_moments",
        "_name",
        "_quiet_until",
    )

    def __init__(self, name: CircuitName, circuit: Circuit) -> None:
        self._name = name
        self._circuit = circuit
        self._answers = 0
        # Those in a row, since the last answer.
        self._calls = 0
        self._moments = 0
        # The event loop whose present turn is counted already. A loop may end within its turn.
        self._moment_of: weakref.ref[asyncio.AbstractEventLoop] | None = None
        # The number of answers from which on there may be a warning.
        self._quiet_until = 0

    def add(self, error: BaseException) -> None:
        """Note a call by what ended it, unless that was an error or an exit of the process."""
        is_error_or_exit = issubclass(type(error), Exception | KeyboardInterrupt | SystemExit)
        if is_error_or_exit or not isinstance(self._circuit.state, Closed):
            return
        answers = self._circuit.count_outcomes()
        if answers != self._answers:
            self._answers, self._calls, self._moments = answers, 0, 0
        self._calls += 1
        self._moments += self._begins_moment()
        is_due = self._calls >= _ABANDONED_CALLS and self._moments >= _MOMENTS
        if is_due and answers >= self._quiet_until:
            self._quiet_until = answers + _ANSWERS_WHEN_OVER
            log.log_abandoned_calls(
                self._name, self._calls, type_name(error), can_count=_can_count(type(error))
            )

    def _begins_moment(self) -> bool:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return True
        if self._moment_of is not None and self._moment_of() is loop:
            return False
        try:
            self._moment_of = weakref.ref(loop)
        except TypeError:  # an event loop of another kind
            return True
        loop.call_soon(self._end_moment)
        return True

    def _end_moment(self) -> None:
        self._moment_of = None


def _can_count(kind: type[BaseException]) -> bool:
    """Return whether `failures` takes a type: a timeout, but not a cancellation or an exit."""
    try:
        failures(kind)
    except BaseException as fault:  # noqa: BLE001 - its metaclass may raise anything
        raise_interrupt(fault)
        return False
    return True


def _how_to_count(kind: type) -> str:
    """Return the line that makes a type of error count, or why there is none."""
    if says_client_errors(kind):
        return (
            "they also report 4xx, which must not count: if the region causes some of them, let a"
            " classifier of your own tell which"
        )
    name = full_name(kind)
    module = name.removesuffix(qualified_name(kind)).removesuffix(".")
    if "<locals>" in name or module == "__main__":  # nothing can be imported
        name, module = name_of_class(kind), ""
    imports = "from resilience import failures"
    if module:
        imports = f"import {one_line(module)}; {imports}"
    counted = f"{imports}; classifier=failures({one_line(name)})"
    return f"if the region causes them, count them: {counted}"
