"""Draws one partial outage under five policies, from the simulation.

make policy-picture
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.sax.saxutils import escape

from resilience import Backoff, BreakerPolicy, CircuitState
from resilience.explain import Phase, Scenario, Simulation, simulate

FILE = Path(__file__).parent / "_static" / "policies.svg"
BEFORE, OUTAGE, AFTER = 60, 600, 240
SCENARIO = Scenario(
    phases=(
        Phase(seconds=BEFORE),
        Phase(seconds=OUTAGE, failure_rate=0.6),
        Phase(seconds=AFTER),
    ),
    attempts=2,
)
POLICIES = {
    "default": BreakerPolicy(),
    "failure_threshold=5": BreakerPolicy(failure_threshold=5),
    "failure_rate_threshold=0.5": BreakerPolicy(failure_rate_threshold=0.5),
    "failure_rate_threshold=0.25": BreakerPolicy(failure_rate_threshold=0.25),
    "0.25, Backoff(10), ramp=(2, 2)": BreakerPolicy(
        failure_rate_threshold=0.25, recovery_timeout=Backoff(10, maximum=120), ramp=(2, 2)
    ),
}
COLOURS = {
    CircuitState.CLOSED: "#4c9f70",
    CircuitState.OPEN: "#c8553d",
    CircuitState.HALF_OPEN: "#e0a030",
}
LEFT, WIDTH, ROW, TOP = 230, 560, 46, 44


def svg() -> str:
    """Return the picture."""
    height = TOP + ROW * len(POLICIES) + 30
    begin, end = _x(BEFORE), _x(BEFORE + OUTAGE)
    width = LEFT + WIDTH + 20
    frame = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        ' aria-label="One partial outage under five policies" font-family="sans-serif"'
        ' font-size="13">'
    )
    outage = (
        f'<rect x="{begin:.1f}" y="{TOP - 14}" width="{end - begin:.1f}"'
        f' height="{height - TOP - 8}" fill="#eeeeee"/>'
    )
    paper = f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    title = _text(begin, TOP - 20, f"60 % of the requests fail for {OUTAGE // 60} minutes")
    parts = [frame, paper, outage, title]
    for number, (name, policy) in enumerate(POLICIES.items()):
        parts += _row(name, simulate(policy, SCENARIO, seed=1), TOP + number * ROW)
    x = LEFT
    for state, colour in COLOURS.items():
        parts.append(f'<rect x="{x}" y="{height - 22}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(x + 18, height - 12, state.value))
        x += 120
    return "\n".join((*parts, "</svg>\n"))


def _row(name: str, result: Simulation, y: int) -> list[str]:
    parts = [_text(8, y + 14, name), _text(LEFT, y + 31, _figures(result), "#555555")]
    since, state = 0.0, CircuitState.CLOSED
    for change in result.transitions:
        parts.append(_bar(since, change.at, state, y))
        since, state = change.at, change.new
    return [*parts, _bar(since, SCENARIO.seconds, state, y)]


def _figures(result: Simulation) -> str:
    after = result.opens_after - BEFORE
    opens = "never opens" if after == math.inf else f"opens after {after:.0f} s"
    return f"{opens}, {result.failed:,} failed calls, {result.requests:,} requests"


def _bar(since: float, until: float, state: CircuitState, y: int) -> str:
    width = max(1.0, _x(until) - _x(since))
    return (
        f'<rect x="{_x(since):.1f}" y="{y}" width="{width:.1f}" height="17"'
        f' fill="{COLOURS[state]}"/>'
    )


def _x(seconds: float) -> float:
    return LEFT + WIDTH * seconds / SCENARIO.seconds


def _text(x: float, y: float, line: str, colour: str = "#222222") -> str:
    return f'<text x="{x:.1f}" y="{y}" fill="{colour}">{escape(line)}</text>'


if __name__ == "__main__":
    FILE.write_text(svg(), encoding="utf-8")
