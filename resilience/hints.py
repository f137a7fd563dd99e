"""Hints: one WARNING where a circuit stays CLOSED although it may be meant to open.

A circuit opens by what it counts. Two mistakes keep it from counting anything while its region is
down: the client raises a type of error that no rule knows, or the timeout is around the protected
function, where it looks like any other cancellation. Both show in calls that are IGNORED, so that
only these pay for the hints, and a success pays nothing. A third one is a policy whose numbers do
not fit what it counts. It shows in failures, and the circuit itself notices them.

The first two are noted without the lock. At worst a race makes a hint late, or gives it twice.
"""

import asyncio
import math
import weakref
from collections import Counter, deque

from resilience import log
from resilience._interrupts import raise_interrupt
from resilience._introspection import name_of_class, qualified_name, type_name
from resilience._text import one_line
from resilience.circuit import Circuit
from resilience.circuit_events import StaysClosed
from resilience.circuit_name import CircuitName
from resilience.circuit_states import Closed
from resilience.classify import failures, full_name, says_client_errors
from resilience.policy import BreakerPolicy

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

# A region of whose calls fewer fail is up, whatever the policy.
_SHARE_OF_TROUBLE = 0.1

_NO_ERRORS: deque[tuple[int, type]] = deque(maxlen=0)  # for the many breakers that never have one


class Hints:
    """The hints about the calls of one circuit.

    Args:
        name: The name of the circuit, for the log.
        circuit: Counts the calls. While it is not CLOSED, nothing is noted.
    """

    __slots__ = ("abandoned_calls", "unknown_errors", "untripped_failures")

    def __init__(self, name: CircuitName, circuit: Circuit) -> None:
        #: The errors that no rule knows.
        self.unknown_errors = UnknownErrors(name, circuit)
        #: The calls that were ended from outside.
        self.abandoned_calls = AbandonedCalls(name, circuit)
        #: The failures that have not tripped the circuit.
        self.untripped_failures = UntrippedFailures(circuit)


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


class UntrippedFailures:
    """Advises, once for each policy, where its numbers do not fit the failures of a region.

    Args:
        circuit: Has the policy.
    """

    __slots__ = ("_advised", "_circuit")

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        # The policy that the last advice was about.
        self._advised: BreakerPolicy | None = None

    def advise(self, event: StaysClosed) -> log.Advice | None:
        """Return which number would have tripped the circuit; None: that was known, or is well."""
        policy = self._circuit.policy
        if policy is self._advised or event.failures < _SHARE_OF_TROUBLE * event.calls:
            return None
        self._advised = policy
        seen = f"although {event.failures:,} of the last {event.calls:,} calls failed"
        return log.Advice(
            f"stays CLOSED for region {{}}, {seen}: {_what_would_trip(policy, event)}"
        )


def _what_would_trip(policy: BreakerPolicy, event: StaysClosed) -> str:
    """Return why the policy has not tripped, and the numbers that would have."""
    share = event.failures / event.calls
    in_window = policy.window * event.calls / event.seconds if event.seconds else math.inf
    threshold = policy.failure_rate_threshold
    if threshold is not None and share >= threshold and in_window < policy.minimum_calls:
        fewer = max(1, math.floor(in_window))
        return (
            f"a window of {policy.window:g} s holds about {fewer} of them, fewer than"
            f" minimum_calls={policy.minimum_calls}; minimum_calls={fewer} would have opened it"
        )
    better = f"failure_rate_threshold={math.floor(100 * share) / 100:g}"
    if threshold is not None and share >= threshold:  # of all, and not where there were enough
        better = f"window={math.ceil(event.seconds)}"
    elif in_window < policy.minimum_calls:
        longer = math.ceil(2 * policy.minimum_calls * event.seconds / event.calls)
        better = f"{better} with window={longer}"
    if event.longest_streak > 1:
        better = f"failure_threshold={event.longest_streak} or {better}"
    never_more = f"never more than {event.longest_streak} failed in a row"
    return f"{never_more}; {better} would have opened it"


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
