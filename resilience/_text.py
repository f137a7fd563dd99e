"""Text from outside, made safe for one line of a log."""

_LONGEST = 200


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
