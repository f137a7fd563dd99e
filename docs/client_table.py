"""The Sphinx directive ``{client-table}``, which shows how the errors of each client are judged.

The table is made from the data that the rules use. The versions are those of the environment that
the tests with real clients run in; a client without one was not run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sphinx.util.docutils import SphinxDirective

from resilience.classify.libraries import LIBRARIES
from resilience.classify.library import Meaning

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

    from resilience.classify.library import ClientLibrary, Code, Codes

LOCK = Path(__file__).parents[1] / "tests" / "integration" / "clients" / "requirements.lock"
HEADINGS = ("Client", "FAILURE", "ANSWERED", "IGNORED", "What to set")


class Row(NamedTuple):
    """One library in the table: text in Markdown."""

    client: str
    failure: str
    answered: str
    ignored: str
    advice: str


def versions(lock: Path = LOCK) -> dict[str, str]:
    """Return the versions that were tested, by the name of the distribution."""
    if not lock.exists():
        return {}
    pins = re.findall(
        r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;]+)", lock.read_text("utf-8"), re.MULTILINE
    )
    return {_normalized(name): version for name, version in pins}


def rows(tested: dict[str, str]) -> list[Row]:
    """Return the table without its headings."""
    return [row(library, tested) for library in LIBRARIES]


def markdown(tested: dict[str, str]) -> str:
    """Return the table as Markdown."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *rows(tested)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def row(library: ClientLibrary, tested: dict[str, str]) -> Row:
    """Return the row of one library."""
    has_status = library.has_http_status or library.reads_status
    return Row(
        ", ".join(_with_version(client, tested) for client in library.name.split(", ")),
        _cell(
            ["5xx"] * has_status + _types((*library.outages, *library.wrappers)),
            library,
            Meaning.OUTAGE,
        ),
        _cell(
            ["4xx"] * has_status + _types((*library.refusals, *library.throttling)),
            library,
            Meaning.REFUSAL,
            Meaning.THROTTLING,
        ),
        _cell(
            ["407"] * has_status + _types((*library.misuse, *library.local)),
            library,
            Meaning.MISUSE,
            Meaning.LOCAL,
        ),
        library.advice,
    )


def _with_version(client: str, tested: dict[str, str]) -> str:
    version = tested.get(_normalized(client.partition(" (")[0]))
    return client if version is None else f"{client} {version}"


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _types(names: tuple[str, ...]) -> list[str]:
    return [f"`{name}`" for name in sorted(names, key=str.lower)]


def _cell(parts: list[str], library: ClientLibrary, *meanings: Meaning) -> str:
    parts = parts + [
        f"`{codes.path}`: {known}"
        for codes in library.codes
        if (known := ", ".join(_codes(codes, meanings)))
    ]
    texts = [part for part, meaning in library.texts if meaning in meanings]
    parts += [f"“{text.strip()}”" if text else "an empty message" for text in texts]
    return "; ".join(parts).replace("|", "\\|")


def _codes(codes: Codes, meanings: tuple[Meaning, ...]) -> list[str]:
    known: list[str] = []
    for meaning, group in (
        (Meaning.OUTAGE, codes.outages),
        (Meaning.THROTTLING, codes.throttling),
        (Meaning.LOCAL, codes.local),
        (Meaning.REFUSAL, codes.refusals),
        (Meaning.MISUSE, codes.misuse),
    ):
        if meaning in meanings:
            known += [_code(code) for code in group]
    return [*known, "others"] if codes.others in meanings else known


def _code(code: Code) -> str:
    if isinstance(code, range):
        return f"{code.start} to {code.stop - 1}"
    return str(code)


class ClientTable(SphinxDirective):
    """``{client-table}``: one row for each library."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(LOCK))
        return self.parse_text_to_nodes(markdown(versions()))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("client-table", ClientTable)
    return {"version": "1", "parallel_read_safe": True}
