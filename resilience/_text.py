"""Text from outside, made fit for one line of a log."""

_LONG = 200


def one_line(text: str) -> str:
    """Escape what is not printable in a text and cut it to 200 characters.

    Args:
        text: Anything, also what a stranger chose: a region's name, a reason given by hand.

    Returns:
        Printable text without line breaks, so that nobody can forge a line of the log.
    """
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:_LONG])
    return (text if text.isprintable() else "".join(shown))[:_LONG]
