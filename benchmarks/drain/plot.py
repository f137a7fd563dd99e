"""Draws lines over time as an SVG file, which follows the colours of the page that shows it."""

from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT = 720, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 16, 48
_COLOURS = (
    "#d1495b",
    "#edae49",
    "#00798c",
    "#2e7d32",
    "#7048a8",
    "#a0522d",
    "#708090",
    "#c2185b",
)

Line = Sequence[tuple[float, float]]


class _Frame:
    """Where a point of the plot is in the picture."""

    def __init__(self, most_x: float, most_y: float) -> None:
        self.most_x, self.most_y = most_x, most_y

    def x(self, value: float) -> float:
        """Return the horizontal place."""
        return round(_LEFT + value / self.most_x * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        """Return the vertical place."""
        return round(_TOP + (1 - value / self.most_y) * (_HEIGHT - _TOP - _BOTTOM), 1)


def draw(lines: Mapping[str, Line], *, x_label: str, y_label: str, x_step: float) -> str:
    """Return the text of an SVG file.

    Args:
        lines: The points of each line, by its name.
        x_label: What the horizontal axis shows.
        y_label: What the vertical axis shows.
        x_step: The distance of the marks on the horizontal axis.
    """
    points = [point for line in lines.values() for point in line]
    frame = _Frame(max(x for x, _ in points), max(y for _, y in points))
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    font = 'font-family="sans-serif" font-size="12" fill="#777"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {font}>',
        f"<title>{y_label} over {x_label}</title>",
        *_axes(frame, x_step),
        _text(_WIDTH / 2, _HEIGHT - 8, x_label, "middle"),
    ]
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in line)
        parts.append(
            f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        label = _text(_WIDTH - _RIGHT, _TOP + 16 + 18 * number, name, "end")
        parts.append(label.replace("<text", f'<text fill="{colour}"'))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axes(frame: _Frame, x_step: float) -> list[str]:
    left, bottom = frame.x(0), frame.y(0)
    path = f"M{left},{_TOP} L{left},{bottom} L{frame.x(frame.most_x)},{bottom}"
    parts = [f'<path d="{path}" fill="none" stroke="#777"/>']
    for number in range(int(frame.most_x / x_step) + 1):
        value = number * x_step
        parts.append(_text(frame.x(value), bottom + 16, f"{value:,.0f}", "middle"))
    for share in (0.0, 0.5, 1.0):
        value = share * frame.most_y
        parts.append(_text(left - 6, frame.y(value) + 4, f"{value:,.0f}", "end"))
    return parts


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{text}</text>'
