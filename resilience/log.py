"""Every line that the package logs, through loguru."""

import contextlib
import traceback
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from loguru import logger

from resilience._text import one_line
from resilience._validate import name_of
from resilience.circuit import RESET, CircuitState

if TYPE_CHECKING:
    from resilience.events import StateChanged

_LEVELS = {"OPEN": "ERROR", "HALF_OPEN": "WARNING", "CLOSED": "INFO"}


def log_state(event: "StateChanged") -> None:
    """Log a change of state, with T10's levels and words."""
    counted = (event.new, event.by) == (CircuitState.OPEN, None) and event.retry_after is not None
    failures = f" after {event.streak} failure{'' if event.streak == 1 else 's'}" if counted else ""
    closed = f" — {event.reason if event.reason == RESET else 'recovered'}"
    how = closed if event.new is CircuitState.CLOSED else f"{failures}: {event.reason}"
    told = f", told by {event.by}" if event.by else ""
    bound = {name: getattr(event, name) for name in ("old", "new", "reason", "streak", "by")}
    log(_LEVELS[event.new], event.region, f"{event.new} for region {{}}{how}{told}", bound)


def log_lost_probes(region: str, timeouts: Iterable[float]) -> None:
    """Warn that probes have lost their places."""
    for timeout in timeouts:
        log("WARNING", region, f"lost a probe for region {{}}: no result within {timeout:g} s")


def log_unknown_errors(region: str, count: int, error: BaseException) -> None:
    """Warn that a breaker sees nothing but errors that no rule knows."""
    kind = one_line(type(error).__name__)
    hint = f"if they are the region's fault, count them with classifier=failures({kind})"
    log("WARNING", region, f"ignored {count} errors in a row for region {{}}, a {kind}: {hint}")


def log_crowded(limit: int) -> None:
    """Warn that a registry has let go of its first breaker."""
    hint = "is region_from a region, or something that never repeats?"
    log("WARNING", "", f"registry keeps {limit} regions (max_regions) and lets go of one: {hint}")


def log_fault(role: str, function: object, what: str, region: str) -> None:
    """Log that a listener or a classifier did what it must not."""
    log("ERROR", region, f"{role} {one_line(name_of(function))} for region {{}} {what}")


def describe_exception(error: BaseException) -> str:
    """Tell what was raised and where, by type and place.

    Neither the error's text nor local values: they may hold a tenant's secrets.
    """
    kind, trace = one_line(type(error).__name__), traceback.extract_tb(error.__traceback__)
    return f"raised {kind}" + "".join(f"\n  {p.filename}:{p.lineno} in {p.name}" for p in trace)


def log(level: str, region: str, text: str, bound: Mapping[str, object] | None = None) -> None:
    """Write one line to the log, with the region in place of the braces."""
    region = one_line(region)
    # A sink with catch=False may raise: a log that fails must not fail a call.
    with contextlib.suppress(Exception):
        bound_logger = logger.bind(region=region, **(bound or {}))
        bound_logger.log(level, "Circuit breaker {}", text.replace("{}", region, 1))
