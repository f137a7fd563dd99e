"""Text from outside, made safe for one line of a log, and names of a bounded length."""

import hashlib
import re

_LONGEST = 200
# The name of a region has at most as many characters as one line shows of a text, so that logs,
# pages and metrics show it whole. Names of regions and of their hosts are far shorter.
LONGEST_NAME = _LONGEST
_KEPT = 160  # characters of a name that is shortened or escaped; its hash follows
_HASH = 32  # hexadecimal digits: half of a SHA-256
_LOOKS_ESCAPED = re.compile(rf".*~[0-9a-f]{{{_HASH}}}", re.DOTALL)


def one_line(text: str) -> str:
    """Escape what is not printable in a text, and cut it to 200 characters.

    Args:
        text: Any text, including one that a stranger chose: a region's name, a reason.

    Returns:
        Printable text without line breaks, so that nobody can forge a line of the log.
    """
    if text.isprintable():
        return text[:_LONGEST]
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:_LONGEST])
    return "".join(shown)[:_LONGEST]


def bounded_name(name: str) -> str:
    """Return a region's name, shortened and with a hash of the whole if it is too long to keep.

    The memory of a registry is bounded by this and by the number of its regions.

    Args:
        name: Any text.

    Returns:
        A name of at most 200 characters, the same for the same text and for itself.
    """
    return name if len(name) <= LONGEST_NAME else f"{name[:_KEPT]}#{_hash(name)}"


def display_name(name: str) -> str:
    """Return a region's name in a form that can be displayed, different for every region.

    The name comes from outside: it may hold characters that no encoding can write. Such a name is
    escaped and given a hash, and so is one that looks as if it had been.
    """
    line = one_line(name)
    if line == name and not _LOOKS_ESCAPED.fullmatch(name):
        return name
    return f"{line[:_KEPT]}~{_hash(name)}"


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH]
