"""Mode: whether a circuit rejects calls, only counts what it would reject, or does nothing.

The environment variable RESILIENCE_MODE overrides the mode of every policy. It is read once, when
the package is imported. With `off` not even a wrong policy is an error: it must be possible to
switch everything off from outside, whatever the configuration says.
"""

import os
import warnings
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from resilience._validate import kind_of, shown

VARIABLE: Final = "RESILIENCE_MODE"


class Mode(StrEnum):
    """What a circuit does with the calls that it would reject."""

    ENFORCE = "enforce"
    OBSERVE = "observe"
    OFF = "off"


def parse_mode(name: str, value: object) -> Mode:
    """Return a mode by its name.

    Args:
        name: What it is called where it was given, for the error.
        value: A `Mode`, or its text.

    Raises:
        TypeError: It is not a string.
        ValueError: There is no such mode.
    """
    modes = ", ".join(map(repr, map(str, Mode)))
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {modes}, got {kind_of(value)}")
    text = str.__str__(value)  # one of a class derived from `str` may compare in its own way
    try:
        return Mode(text)
    except ValueError:
        raise ValueError(f"{name} must be one of {modes}, got {shown(text)}") from None


def _read_variable() -> Mode | None:
    text = os.environ.get(VARIABLE, "").strip().lower()
    return parse_mode(VARIABLE, text) if text else None


#: The mode of every policy; None: each has its own.
FORCED_MODE: Final = _read_variable()


def check_unless_off(check: Callable[[], None]) -> bool:
    """Check a policy; what is wrong with it is only a warning while everything is switched off.

    Returns:
        Whether it is right. One that is not is to be replaced by one that is: its numbers are
        looked at for leases and on status pages, although no circuit is used.
    """
    try:
        check()
    except (TypeError, ValueError) as error:
        if FORCED_MODE is not Mode.OFF:
            raise
        text = f"not used, since {VARIABLE} is off, and wrong: {error}"
        warnings.warn(text, RuntimeWarning, stacklevel=4)
        return False
    return True
