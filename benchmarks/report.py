"""Tables and pages: every figure in the docs is written by the program that measured it."""

import platform
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table; every column but the first is aligned to the right."""
    lines = [f"| {' | '.join(head)} |", "|---" + "|--:" * (len(head) - 1) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def origin(command: str, *libraries: str, how: str = "Measured") -> str:
    """Describe where the figures of a page come from: command, day, Python, machine, versions.

    Args:
        command: The command that was typed.
        libraries: The libraries, next to the contenders, whose version matters.
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
        page: The path of its file below docs/.
        parts: Its paragraphs and tables.
    """
    text = "\n\n".join(part.strip("\n") for part in parts if part) + "\n"
    print(text)
    (ROOT / "docs" / page).write_text(text, encoding="utf-8")
    print(f"written: docs/{page}")


def write_section(page: str, command: str, *parts: str) -> None:
    """Print paragraphs and put them into a page that is otherwise written by hand.

    Args:
        page: The path of its file in the project.
        command: The command that writes the section. The page has a comment with this text before
            the section, and one with "end" after it.
        parts: The paragraphs and tables.

    Raises:
        ValueError: The page does not have the comments.
    """
    text = "\n\n".join(part.strip("\n") for part in parts)
    print(text)
    begin, end = f"<!-- {command} -->\n", "<!-- end -->"
    file = ROOT / page
    section = re.compile(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", re.DOTALL)
    new, found = section.subn(lambda _: f"\n{text}\n\n", file.read_text(encoding="utf-8"))
    if found != 1:
        raise ValueError(f"{page} needs one section between {begin.strip()} and {end}")
    file.write_text(new, encoding="utf-8")
    print(f"written: a section of {page}")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else "unknown processor"
