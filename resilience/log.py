"""Every line that the package logs, through loguru unless it is sent elsewhere."""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from loguru import logger

from resilience._introspection import traceback_of, type_name
from resilience._text import display_name, one_line
from resilience._validate import name_of
from resilience.circuit import RESET
from resilience.circuit_events import ProbeExpired, ProbesIgnored, RejectionsBegan
from resilience.circuit_name import UNMENTIONED, CircuitName
from resilience.circuit_states import CircuitState
from resilience.events import StateChanged
from resilience.mode import VARIABLE, Mode
from resilience.rules.trip import TripRule

_LEVELS = {
    CircuitState.OPEN: "ERROR",
    CircuitState.HALF_OPEN: "WARNING",
    CircuitState.CLOSED: "INFO",
}


# The environment variable RESILIENCE_LOG turns the log off, wherever it is sent.
_IS_OFF = os.environ.get("RESILIENCE_LOG", "").strip().lower() == "off"

#: Takes the name of a level, a line, and what belongs to it.
Destination: TypeAlias = Callable[[str, str, Mapping[str, object]], object]


# Where each line goes; None: to loguru.
_destination: Destination | None = None


def send_lines_to(destination: Destination) -> Callable[[], None]:
    """Send each line there from now on, instead of to loguru.

    Args:
        destination: Takes the name of a level of the standard library, a line, and what belongs to
            it: names that are the same in all lines. What it raises is reported once.

    Returns:
        A function that ends it; it does nothing if the lines are sent elsewhere by then.
    """
    global _destination  # noqa: PLW0603 - a process has one log
    _destination = destination

    def stop() -> None:
        global _destination  # noqa: PLW0603 - the same
        if _destination is destination:
            _destination = None

    return stop


class Once:
    """What is to be logged only the first time that it happens, in any thread."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def happens(self) -> bool:
        """Return whether this is the first time."""
        return self._lock.acquire(blocking=False)  # and it is never released


def log(
    level: str,
    circuit: CircuitName | str,
    text: str,
    bound: Mapping[str, object] | None = None,
    *,
    subject: str = "Circuit breaker",
) -> None:
    """Write one line.

    Args:
        level: The name of its level.
        circuit: The name of a circuit, which is written in place of the braces; or the region
            alone. Empty: the line is about no circuit.
        text: The line without its subject.
        bound: What belongs to the line, in addition to the region.
        subject: What the line is about.
    """
    if _IS_OFF:
        return
    # A sink with catch=False may raise: a log that fails must not fail a call.
    try:
        name = CircuitName(circuit) if isinstance(circuit, str) else circuit
        fields: dict[str, object] = {"region": ""}
        if name.region:  # Without one, braces are part of the text: a broker's reply may have some.
            shown = fields["region"] = display_name(name.region)
            if name.registry not in UNMENTIONED:
                fields["registry"] = one_line(name.registry)
                shown = f"{shown} of registry {fields['registry']}"
            text = text.replace("{}", shown, 1)
        fields |= bound or {}
        if _destination is None:
            logger.bind(**fields).log(level, "{} {}", subject, text)
        else:
            _destination(level, f"{subject} {text}", fields)
    except Exception as error:  # noqa: BLE001 - whatever a sink raises
        _report_broken_sink(error)


def log_consumer(level: str, queue: str, text: str, region: str = "") -> None:
    """Write one line about the consumer of a queue, and of one region if one is given."""
    queue, region = one_line(queue), one_line(region)
    of_region = f" for region {region}" if region else ""
    bound = {"queue": queue, "region": region}
    log(level, "", text, bound, subject=f"Consumer of queue {queue}{of_region}")


class Advice(NamedTuple):
    """A WARNING about a policy, with the number that would be better."""

    text: str


def log_event(
    circuit: CircuitName,
    event: StateChanged | ProbeExpired | RejectionsBegan | ProbesIgnored | Advice,
) -> None:
    """Log what happened to a circuit."""
    if isinstance(event, Advice):
        log("WARNING", circuit, event.text)
        return
    if isinstance(event, ProbesIgnored):
        _log_ignored_probes(circuit, event)
        return
    if isinstance(event, ProbeExpired):
        text = f"lost a probe for region {{}}: no result within {event.after:g} s"
        log("WARNING", circuit, text)
        return
    if isinstance(event, RejectionsBegan):
        bound: dict[str, object] = {"state": event.state, "reason": event.reason}
        verb = "rejects" if event.mode is Mode.ENFORCE else "would reject"
        text = f"{verb} calls for region {{}}, which is {event.state}: {event.reason}"
        log("INFO", circuit, text, bound)
        return
    if event.rejected:
        _log_rejected_calls(circuit, event)
    bound = {
        "old": event.old,
        "new": event.new,
        "reason": event.reason,
        "streak": event.streak,
        "by": event.by,
        "rule": event.rule,
        "mode": event.mode,
    }
    observed = "" if event.mode is Mode.ENFORCE else f" (mode {event.mode}: it rejects nobody)"
    text = f"{event.new} for region {{}}{_explain(event)}{observed}"
    log(_LEVELS[event.new], circuit, text, bound)


def log_unknown_errors(
    circuit: CircuitName, count: int, calls: int, kind: str, advice: str
) -> None:
    """Warn that a breaker ignores most calls, since no rule knows their errors."""
    errors = f"ended in errors that no rule knows, most often {one_line(kind)}"
    text = f"ignored {count} of the last {calls} calls for region {{}}: they {errors}"
    log("WARNING", circuit, f"{text}; {advice}")


def log_abandoned_calls(circuit: CircuitName, count: int, kind: str, *, can_count: bool) -> None:
    """Warn that a breaker learns nothing, since call after call was ended from outside."""
    kind = one_line(kind)
    text = f"ignored {count} calls in a row for region {{}}: they were ended from outside ({kind})"
    hint = (
        "if a timeout around the protected function ends them, the circuit cannot open; set the"
        " timeout inside the function, best as the timeout of its client"
    )
    if can_count:
        hint += f"; if {kind} is a timeout from inside it, count it: classifier=failures({kind})"
    log("WARNING", circuit, f"{text}; {hint}")


def log_lazy_result(function: object, result: object, acquire: str) -> None:
    """Warn that the work of a protected function goes on after its calls are over."""
    name, kind = one_line(name_of(function)), one_line(type_name(result))
    hint = f"do the work inside the function, or in a block of `with {acquire}:`"
    text = f"protects {name} only until it returns, and the {kind} that it returns works later"
    log("WARNING", "", f"{text}: {hint}")


def log_eviction(registry: str, limit: int) -> None:
    """Warn that a registry has evicted its first breaker."""
    hint = "does region_from give a region, or something that never repeats?"
    which = "" if registry in UNMENTIONED else f" {one_line(registry)}"
    log(
        "WARNING",
        "",
        f"registry{which} keeps {limit} regions (max_regions) and has evicted one: {hint}",
    )


def log_forced_open_unused(circuit: CircuitName) -> None:
    """Warn that a circuit is held open that no call has gone through."""
    text = "is held open for region {}, which has not been called: is the name spelled correctly?"
    log("WARNING", circuit, text)


def log_forced_mode(mode: Mode) -> None:
    """Warn once that the environment overrides the mode of every policy."""
    if _forced_mode.happens():
        log("WARNING", "", f"mode is {mode} for every region: {VARIABLE} overrides the policies")


def log_unknown_genesys_region(region: str) -> None:
    """Warn that a region may be misspelled: it would have a circuit that nobody else uses."""
    text = "has a new circuit for {}, which looks like a Genesys region but is none of the 18"
    log("WARNING", region, f"{text}: is it misspelled?")


def log_loop_not_stopped(function: str, origin: str) -> None:
    """Warn that the retries of a function go on when its circuit opens."""
    text = f"cannot stop the retries of {one_line(function)}: a loop of {one_line(origin)}"
    log("WARNING", "", text)


def log_gate_above_breaker(function: str) -> None:
    """Warn that a gate stands where it does nothing."""
    text = f"of {one_line(function)} is below gate, where gate does nothing"
    log("WARNING", "", f"{text}: put gate below the circuit breaker, around the loop")


def log_closed_loop(circuit: CircuitName) -> None:
    """Warn that a listener receives nothing any more, since its event loop is closed."""
    text = "cannot call a listener for region {}: its event loop is closed; end it before the loop"
    log("WARNING", circuit, text)


def log_dropped_events(circuit: CircuitName, limit: int) -> None:
    """Warn that events are lost, since a listener does not keep up with them."""
    text = f"drops events for region {{}}: {limit:,} of them wait for a listener already"
    log("WARNING", circuit, text)


def log_fault(role: str, function: object, what: str, circuit: CircuitName | str) -> None:
    """Log that a user's function, such as a listener or a classifier, did what it must not."""
    log("ERROR", circuit, f"{role} {one_line(name_of(function))} for region {{}} {what}")


def describe_duration(seconds: float) -> str:
    """Return a number of seconds as a line shows it, never as 0 s."""
    return f"{seconds:.0f} s" if seconds >= 1 else "less than 1 s"


def log_recording_failed(path: str, why: str) -> None:
    """Log that outcomes are not recorded any more."""
    text = f"stopped recording outcomes into {one_line(path)}: {why}"
    log("ERROR", "", text, subject="Registry")


def log_not_recorded(region: str, most: int) -> None:
    """Log that a region has no place in a recording."""
    text = f"does not record region {{}}: {most} others are recorded"
    log("WARNING", region, text, subject="Registry")


def describe_exception(error: BaseException) -> str:
    """Return what was raised and where, by type and place.

    Neither the error's text nor local values: they may hold a tenant's secrets.
    """
    kind = one_line(type_name(error))
    frames = traceback.extract_tb(traceback_of(error))
    places = (f"\n  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
    return f"raised {kind}{''.join(places)}"


def _explain(event: StateChanged) -> str:
    by = f", by {event.by}" if event.by else ""
    if event.new is CircuitState.CLOSED:
        # All lines are ASCII but this one, whose dash programs that read the log may look for.
        return f": {RESET}{by}" if event.reason == RESET else f" — recovered{by}"
    is_forced = event.retry_after is None
    by_streak = event.rule in (None, TripRule.STREAK)
    if event.new is CircuitState.HALF_OPEN or is_forced or by or not by_streak:
        return f": {event.reason}{by}"
    failures = "failure" if event.streak == 1 else "failures"
    # The streak goes on from before the outage: 11 is not the threshold.
    probe = " (probe failed)" if event.old is CircuitState.HALF_OPEN else ""
    return f" after {event.streak} {failures}: {event.reason}{probe}"


def _log_ignored_probes(circuit: CircuitName, event: ProbesIgnored) -> None:
    bound = {"state": CircuitState.HALF_OPEN, "probes": event.count, "reasons": event.reasons}
    raised = f": {', '.join(event.reasons)}" if event.reasons else ""
    text = f"stays HALF_OPEN for region {{}}, {event.count:,} probes in a row were ignored{raised}"
    log("WARNING", circuit, text, bound)


def _log_rejected_calls(circuit: CircuitName, event: StateChanged) -> None:
    calls = "1 call" if event.rejected == 1 else f"{event.rejected:,} calls"
    bound = {"rejected": event.rejected, "seconds": event.duration}
    verb = "rejected" if event.mode is Mode.ENFORCE else "would have rejected"
    text = f"{verb} {calls} for region {{}} in {describe_duration(event.duration)}"
    log("INFO", circuit, text, bound)


_forced_mode = Once()
_broken_sinks: set[str] = set()


def _report_broken_sink(error: Exception) -> None:
    """Write once for each kind of error to the standard error: the log itself does not work."""
    kind = type_name(error)
    if kind in _broken_sinks or sys.stderr is None:
        return
    _broken_sinks.add(kind)
    try:
        print(f"resilience: a log sink {describe_exception(error)}", file=sys.stderr)  # noqa: T201
    except Exception:  # noqa: BLE001 - closed, or full, or there is no stack left to describe it
        return
