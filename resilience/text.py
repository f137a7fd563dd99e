"""Text from outside, made fit for one line of a log."""

_MAX_LENGTH = 200


def one_line(text: str) -> str:
    """Escape what is not printable in a text and cut it to 200 characters.

    Args:
        text: Anything, also what a stranger chose: a region's name, a reason given by hand.

    Returns:
        Printable text without line breaks, so that nobody can forge a line of the log.
    """
    cut = text[:_MAX_LENGTH]
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return "".join(shown)[:_MAX_LENGTH]
