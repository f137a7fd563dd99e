"""The files of the page, and the headers of every answer."""

from pathlib import Path
from typing import NamedTuple

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/icon-alert.svg": ("icon-alert.svg", "image/svg+xml"),
}


class File(NamedTuple):
    """One file of the page, in UTF-8."""

    content: bytes
    content_type: str


def read_files() -> dict[str, File]:
    """Return the files by their paths."""
    folder = Path(__file__).parent
    return {
        path: File((folder / name).read_bytes(), content_type)
        for path, (name, content_type) in _FILES.items()
    }
