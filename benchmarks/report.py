"""Tables and pages: every figure in the docs is written by the program that measured it."""

import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table; every column but the first is a figure and stands right."""
    lines = [f"| {' | '.join(head)} |", "|---" + "|--:" * (len(head) - 1) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def origin(command: str, *libraries: str, how: str = "Measured") -> str:
    """Say where the figures of a page come from: command, day, Python, machine, versions.

    Args:
        command: What was typed.
        libraries: Those whose version matters beside the contenders'.
        how: How the figures were found.
    """
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    machine = f"{_processor()}, {platform.system()} {platform.machine()}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    return f"{how} by `{command}` on {day}: {python}, {machine}; {versions}."


def write(page: str, *parts: str) -> None:
    """Print a page and put it into the docs.

    Args:
        page: its file's path below docs/.
        parts: its paragraphs and tables.
    """
    text = "\n\n".join(part.strip("\n") for part in parts) + "\n"
    print(text)
    (ROOT / "docs" / page).write_text(text, encoding="utf-8")
    print(f"written: docs/{page}")


def renew_quotes(page: str, fresh: str) -> None:
    """Put the rows of a new table in the place of those that a page quotes from an older one.

    Args:
        page: the file's path in the project.
        fresh: the new table; a row is known by its first cell.
    """
    rows = {_first_cell(row): row for row in fresh.splitlines()}
    file = ROOT / page
    lines = file.read_text(encoding="utf-8").splitlines()
    renewed = [
        rows.get(_first_cell(line), line) if line.startswith("| ") else line for line in lines
    ]
    file.write_text("\n".join(renewed) + "\n", encoding="utf-8")


def _first_cell(row: str) -> str:
    return row.split(" | ", 1)[0]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else "unknown processor"
