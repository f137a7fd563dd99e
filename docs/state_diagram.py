"""The Sphinx directive ``{state-diagram}``, which draws the states of a circuit.

This file contains only the layout of the diagram. Which action leads from which state to which is
found by experiment: every sequence of actions is applied to a small circuit breaker, and each
change of state that it reports is recorded together with the action that caused it. The build
fails if a change has no arrow, or an arrow has no change.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.sax.saxutils import escape

from docutils import nodes
from loguru import logger
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    StateChanged,
)
from resilience.testing import FakeClock

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FORCED = "OPEN (forced)"
DEPTH = 5  # actions in a sequence; longer sequences lead to no further changes


class Change(NamedTuple):
    """A change of state and the action that caused it."""

    old: str
    new: str
    cause: str


# Finding the changes


class _Experiment:
    """A circuit breaker with small thresholds, and the actions to apply to it."""

    def __init__(self, seen: set[Change]) -> None:
        policy = BreakerPolicy(failure_threshold=2, recovery_timeout=1, success_threshold=2)
        self.clock = FakeClock()
        self.breaker = CircuitBreaker("any", policy, clock=self.clock)
        self.breaker.listen(self._record)
        self.seen = seen
        self.cause = ""
        self.state = self.breaker.state.value
        self.times_forced = 0

    def _record(self, event: StateChanged) -> None:
        now = FORCED if event.retry_after is None else event.new.value
        self.seen.add(Change(self.state, now, self.cause))
        self.state = now

    def _call(self, settle: str) -> None:
        self.cause = "a call"
        try:
            permit = self.breaker.acquire()
        except CircuitBreakerOpenError:
            return
        self.cause = settle
        getattr(permit, settle)()

    def succeed(self) -> None:
        self._call("succeed")

    def fail(self) -> None:
        self._call("fail")

    def answered(self) -> None:
        self._call("answered")

    def ignore(self) -> None:
        self._call("ignore")

    def wait(self) -> None:
        self.cause = "time"
        self.clock.advance(1)

    def reset(self) -> None:
        self.cause = "reset"
        self.breaker.reset()

    def force_open(self) -> None:
        self.cause = "force_open"
        self.times_forced += 1  # forcing open twice for the same reason changes nothing
        self.breaker.force_open(f"reason {self.times_forced}")


ACTIONS = ("succeed", "fail", "answered", "ignore", "wait", "reset", "force_open")


@cache
def changes(depth: int = DEPTH) -> frozenset[Change]:
    """Find all changes of state by trying every sequence of actions."""
    seen: set[Change] = set()
    logger.disable("resilience")
    try:
        for sequence in product(ACTIONS, repeat=depth):
            experiment = _Experiment(seen)
            for action in sequence:
                getattr(experiment, action)()
    finally:
        logger.enable("resilience")
    return frozenset(seen)


# The layout

VIEW = "35 40 610 365"
BOX = (150, 52)
PLACES = {
    "CLOSED": (125, 95, "calls pass"),
    "OPEN": (540, 95, "calls are rejected"),
    "HALF_OPEN": (540, 245, "a few calls probe"),
    FORCED: (125, 375, "calls are rejected"),
}


class Arrow(NamedTuple):
    """An arrow of the diagram: the changes that it shows, its path and its label."""

    changes: frozenset[Change]
    path: str
    text: tuple[str, ...]
    x: int
    y: int
    align: str = ""
    by_hand: bool = False


def _from(olds: str, new: str, cause: str) -> frozenset[Change]:
    return frozenset(Change(old, new, cause) for old in olds.split(", "))


ARROWS = (
    Arrow(
        _from("CLOSED", "OPEN", "fail"),
        "M202 85 H458",
        ("failure_threshold", "failures in a row"),
        331,
        57,
    ),
    Arrow(
        _from("OPEN", "HALF_OPEN", "a call"),
        "M515 123 V213",
        ("the first call after", "recovery_timeout seconds"),
        505,
        160,
        "end",
    ),
    Arrow(
        _from("HALF_OPEN", "OPEN", "fail"),
        "M565 217 V127",
        ("one failed", "probe"),
        577,
        160,
        "start",
    ),
    Arrow(
        _from("HALF_OPEN", "CLOSED", "succeed") | _from("HALF_OPEN", "CLOSED", "answered"),
        "M463 245 H150 V127",
        ("success_threshold", "answered probes in a row"),
        300,
        222,
    ),
    Arrow(
        _from("OPEN, HALF_OPEN", "CLOSED", "reset"),
        "M463 108 H207",
        ("reset(), also from HALF_OPEN",),
        331,
        126,
        by_hand=True,
    ),
    Arrow(
        _from(FORCED, "CLOSED", "reset"),
        "M100 347 V127",
        ("reset()",),
        90,
        222,
        "end",
        by_hand=True,
    ),
    Arrow(
        _from(f"CLOSED, OPEN, HALF_OPEN, {FORCED}", FORCED, "force_open"),
        "M360 375 H207",
        ("force_open(reason)", "from any state"),
        370,
        371,
        "start",
        by_hand=True,
    ),
)


_FRAME = f"""\
<svg class="state-diagram" xmlns="http://www.w3.org/2000/svg" viewBox="{VIEW}" role="img"
 aria-label="The states of a circuit">
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"
 orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker></defs>"""


def svg() -> str:
    """Return the diagram; its colours come from the style sheet."""
    found, drawn = changes(), frozenset[Change]().union(*(arrow.changes for arrow in ARROWS))
    if found != drawn:
        raise ExtensionError(f"the diagram lacks {found - drawn} and has too much {drawn - found}")
    parts = [_FRAME]
    for arrow in ARROWS:
        dashes = ' stroke-dasharray="5 4"' if arrow.by_hand else ""
        parts.append(f'<path d="{arrow.path}" marker-end="url(#tip)"{dashes}/>')
        parts += [
            _text(line, arrow.x, arrow.y + 17 * number, arrow.align)
            for number, line in enumerate(arrow.text)
        ]
    for name, (x, y, note) in PLACES.items():
        width, height = BOX
        parts.append(
            f'<rect x="{x - width // 2}" y="{y - height // 2}" width="{width}" height="{height}"'
            ' rx="6"/>'
        )
        parts += [_text(name, x, y - 3, "name"), _text(note, x, y + 16, "note")]
    return "\n".join((*parts, "</svg>"))


def _text(line: str, x: int, y: int, kind: str) -> str:
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(line)}</text>'


class StateDiagram(SphinxDirective):
    """``{state-diagram}``: the diagram in HTML, and nothing in other formats."""

    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", svg(), format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("state-diagram", StateDiagram)
    return {"version": "1", "parallel_read_safe": True}
