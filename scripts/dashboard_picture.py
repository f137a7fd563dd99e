"""Draw the Grafana dashboard of the docs as a page: its panels, with what Prometheus answers.

It is no Grafana. Where the panels lie, their titles, queries, units, colours and legends are read
from the dashboard; how a panel looks is made up here after Grafana's dark theme.
"""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from typing import Any

from dashboard_data import BEGIN, EVERY, SECONDS, Answer, Labels, Points

WIDTH = 1400
COLUMNS, ROW, GAP, EDGE = 24, 30, 8, 12  # Grafana's grid
HEAD, TITLE = 48, 32
LEGEND, LEGEND_LINE = 6, 18
PALETTE = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffa6b0")
COLOURS = {"green": "#56a64b", "red": "#e02f44", "orange": "#ff780a"}
STYLE = """
* { box-sizing: border-box; margin: 0 }
body { background: #111217; color: #ccccdc; font: 13px Inter, "DejaVu Sans", sans-serif;
  position: relative; overflow: hidden }
header { position: absolute; left: 14px; right: 14px; top: 13px; display: flex;
  justify-content: space-between }
header b { font-size: 17px; font-weight: 500 }
header span, .legend, td.time { color: #9a9bab }
section { position: absolute; background: #181b1f; border: 1px solid #2a2d34; border-radius: 3px;
  overflow: hidden }
h2 { font-size: 13px; font-weight: 500; line-height: 32px; padding: 0 10px; white-space: nowrap }
.stat { position: absolute; inset: 32px 0 8px; display: flex; align-items: center;
  justify-content: center; font-size: 46px; font-weight: 500 }
.solid, .solid h2 { color: #fff }
.legend { position: absolute; left: 12px; right: 12px; bottom: 6px; font-size: 12px;
  line-height: 18px }
.legend i { display: inline-block; width: 14px; height: 4px; border-radius: 2px;
  margin: 0 6px 3px 0 }
.legend span { display: inline-block; margin-right: 16px; white-space: nowrap }
svg { position: absolute; left: 0; top: 32px }
svg text { fill: #9a9bab; font-size: 11px }
svg text.on { fill: #fff; font-size: 12px }
svg text.name { fill: #ccccdc; font-size: 12px }
table { width: 100%; border-collapse: collapse }
th, td { text-align: left; padding: 8px 12px; border-top: 1px solid #2a2d34; font-weight: 400 }
th { color: #6e9fff }
"""


def unit_text(value: float, unit: str, decimals: int | None = None) -> str:
    """Write a value as Grafana does for the few units that the dashboard has."""
    if math.isinf(value):
        return "+Inf"
    if unit == "s" and value >= 60:  # noqa: PLR2004 - seconds
        return f"{value / 60:.3g} min"
    number = f"{value:.3g}" if decimals is None else f"{value:.{decimals}f}"
    return number + {"cps": " c/s", "s": " s"}.get(unit, "")


def clock(at: float) -> str:
    """Write a time of the day."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M")


def ticks(top: float, unit: str, most: int) -> list[float]:
    """Give round values from 0 up to the first that is not below the top."""
    powers = [10.0**power for power in range(-2, 6)]
    steps = [power * factor for power in powers for factor in (1, 2, 5)]
    if unit == "s":
        steps = [10, 30, 60, 300, 600, 1200, 1800, 3600]
    step = next(step for step in steps if top / step <= most)
    return [step * number for number in range(max(1, math.ceil(top / step)) + 1)]


def label(answer: Answer, labels: Labels) -> str:
    """Write the name of a series as the panel's legend wants it."""
    wanted: str = answer.panel["targets"][0]["legendFormat"]
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), wanted)


def legend_height(names: list[str], width: float) -> int:
    """Say how much room a legend takes; the width of its texts is an estimate, on the safe side."""
    return LEGEND + LEGEND_LINE * math.ceil(sum(7.5 * len(name) + 36 for name in names) / width)


def legend(entries: list[tuple[str, str]]) -> str:
    """Draw a legend of names and colours."""
    spans = "".join(
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for name, colour in entries
    )
    return f'<div class="legend">{spans}</div>'


def time_axis(x: Callable[[float], float], top: float, bottom: float) -> str:
    """Draw the time axis: a line and a text every ten minutes."""
    drawn = ""
    for at in range(int(BEGIN), int(BEGIN) + SECONDS + 1, 600):
        # A text in the middle of its line would be cut off at the right edge.
        anchor = "end" if at == BEGIN + SECONDS else "middle"
        drawn += f'<path d="M{x(at):.1f} {top}V{bottom}" stroke="#24272d"/>'
        drawn += f'<text x="{x(at):.1f}" y="{bottom + 15}" text-anchor="{anchor}">'
        drawn += f"{clock(at)}</text>"
    return drawn


def runs(points: Points) -> list[Points]:
    """Split the points where some are missing, for a line must not be drawn over a gap."""
    split: list[Points] = []
    for point in points:
        if not split or point[0] - split[-1][-1][0] > EVERY:
            split.append([])
        split[-1].append(point)
    return split


def time_series(answer: Answer, width: float, height: float) -> str:
    """Draw lines over time."""
    defaults = answer.panel["fieldConfig"]["defaults"]
    unit = defaults["unit"]
    shown = answer.panel["options"]["legend"]["showLegend"]
    names = [label(answer, labels) for labels, _ in answer.series]
    room = height - TITLE - (legend_height(names, width) if shown else 0)
    left, bottom = 64, room - 24
    marks = ticks(max(v for _, points in answer.series for _, v in points), unit, int(room // 32))

    def x(at: float) -> float:
        return left + (at - BEGIN) / SECONDS * (width - left - 16)

    def y(value: float) -> float:
        return bottom - value / marks[-1] * (bottom - 8)

    drawn = time_axis(x, 8, bottom)
    for mark in marks:
        drawn += f'<path d="M{left} {y(mark):.1f}H{width - 16}" stroke="#2c3038"/>'
        drawn += f'<text x="{left - 8}" y="{y(mark) + 4:.1f}" text-anchor="end">'
        drawn += f"{unit_text(mark, unit)}</text>"
    colours = [PALETTE[number % len(PALETTE)] for number in range(len(names))]
    opacity = defaults["custom"]["fillOpacity"] / 100
    for colour, (_, points) in zip(colours, answer.series, strict=True):
        for run in runs(points):
            line = "L".join(f"{x(at):.1f} {y(value):.1f}" for at, value in run)
            floor = f"V{y(0):.1f}H{x(run[0][0]):.1f}Z"
            drawn += f'<path d="M{line}{floor}" fill="{colour}" fill-opacity="{opacity}"/>'
            drawn += f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
    below = legend(list(zip(names, colours, strict=True))) if shown else ""
    return f'<svg width="{width}" height="{room}">{drawn}</svg>{below}'


def segments(points: Points) -> list[tuple[float, float, float]]:
    """Merge neighbours of one value: from, to, value. A value lasts until the next sample."""
    merged: list[tuple[float, float, float]] = []
    for at, value in points:
        begin = at
        if merged and merged[-1][2] == value:
            begin = merged.pop()[0]
        merged.append((begin, min(at + EVERY, BEGIN + SECONDS), value))
    return merged


def state_timeline(answer: Answer, width: float, height: float) -> str:
    """Draw a bar for each region, coloured by its state."""
    mappings = answer.panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    room = height - TITLE - LEGEND - LEGEND_LINE
    left, bottom = 130, room - 24
    row = (bottom - 8) / len(answer.series)

    def x(at: float) -> float:
        return left + (at - BEGIN) / SECONDS * (width - left - 16)

    drawn = time_axis(x, 8, bottom)
    for number, (labels, points) in enumerate(answer.series):
        top = 8 + number * row
        middle = top + row / 2 + 4
        drawn += f'<text class="name" x="{left - 10}" y="{middle:.1f}" text-anchor="end">'
        drawn += f"{escape(label(answer, labels))}</text>"
        for begin, end, value in segments(points):
            state = mappings[f"{value:.0f}"]
            wide = x(end) - x(begin)
            drawn += f'<rect x="{x(begin):.1f}" y="{top + row * 0.05:.1f}" width="{wide:.1f}" '
            drawn += f'height="{row * 0.9:.1f}" fill="{COLOURS[state["color"]]}" opacity=".85"/>'
            if wide > 9 * len(state["text"]):
                drawn += f'<text class="on" x="{x(begin) + 8:.1f}" y="{middle:.1f}">'
                drawn += f"{state['text']}</text>"
    states = [(state["text"], COLOURS[state["color"]]) for state in mappings.values()]
    return f'<svg width="{width}" height="{room}">{drawn}</svg>{legend(states)}'


def stat(answer: Answer) -> str:
    """Draw one large value."""
    defaults = answer.panel["fieldConfig"]["defaults"]
    value = answer.series[0][1][-1][1]
    text = unit_text(value, defaults.get("unit", ""), defaults.get("decimals"))
    return f'<div class="stat">{text}</div>'


def background(answer: Answer) -> str:
    """Give the colour of a stat's threshold, if it is to fill the panel."""
    if answer.panel["options"].get("colorMode") != "background":
        return ""
    value = answer.series[0][1][-1][1]
    steps = answer.panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return COLOURS[reached[-1]["color"]]


def table(answer: Answer) -> str:
    """Draw a row for each series, with the time as Grafana has it."""
    unit = answer.panel["fieldConfig"]["defaults"]["unit"]
    rows = "".join(
        f'<tr><td class="time">{datetime.fromtimestamp(points[-1][0], UTC):%Y-%m-%d %H:%M:%S}</td>'
        f"<td>{escape(labels['region'])}</td><td>{unit_text(points[-1][1], unit)}</td></tr>"
        for labels, points in answer.series
    )
    return f"<table><tr><th>Time</th><th>region</th><th>Value</th></tr>{rows}</table>"


def panel_html(answer: Answer) -> str:
    """Draw a panel where the dashboard has it."""
    at = answer.panel["gridPos"]
    column = (WIDTH - 2 * EDGE + GAP) / COLUMNS
    width, height = at["w"] * column - GAP, at["h"] * (ROW + GAP) - GAP
    place = f"left:{EDGE + at['x'] * column:.1f}px;top:{HEAD + at['y'] * (ROW + GAP)}px;"
    place += f"width:{width:.1f}px;height:{height}px;"
    fill = ""
    match answer.panel["type"]:
        case "stat":
            inside, fill = stat(answer), background(answer)
        case "table":
            inside = table(answer)
        case "state-timeline":
            inside = state_timeline(answer, width, height)
        case "timeseries":
            inside = time_series(answer, width, height)
        case other:
            raise SystemExit(f"screenshots: no way to draw a panel of the type {other!r}")
    if fill:
        place += f"background:{fill};"
    title = escape(answer.panel["title"])
    kind = "solid" if fill else ""
    return f'<section class="{kind}" style="{place}"><h2>{title}</h2>{inside}</section>'


def dashboard_page(dashboard: dict[str, Any], answers: list[Answer]) -> tuple[str, int, int]:
    """Draw the dashboard; gives the page, its width and its height."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    height = HEAD + rows * (ROW + GAP) + EDGE - GAP
    hour = f"{clock(BEGIN)} to {clock(BEGIN + SECONDS)} UTC"
    html = f"<!DOCTYPE html><meta charset=utf-8><style>{STYLE}body{{height:{height}px}}</style>"
    html += f"<header><b>{escape(dashboard['title'])}</b><span>Region: All · {hour}</span></header>"
    return html + "".join(map(panel_html, answers)), WIDTH, height
