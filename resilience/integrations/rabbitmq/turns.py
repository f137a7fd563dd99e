"""Turns: whether a new message or one that has failed is attempted next.

Messages that always fail must neither open the circuit nor keep the others waiting, however many of
them there are. While there are new messages, a failed one is therefore attempted only after a
success, and in turn with them. The number of failed messages that are attempted at the same time
begins at one, doubles with each that succeeds, and is one again after each that fails.

Messages that were delivered before may have failed then. They are treated in the same way, but by
themselves: that most of them succeed says nothing about those that have failed.
"""

from dataclasses import dataclass
from enum import Enum, auto

_NO_LIMIT = 65_535  # the largest prefetch


class Kind(Enum):
    """What is known about a message."""

    #: It was not attempted.
    NEW = auto()
    #: It was delivered before, and may have failed then.
    REDELIVERED = auto()
    #: It has failed.
    FAILED = auto()


@dataclass(slots=True)
class _Ramp:
    """How many messages of a kind may be attempted at the same time."""

    most: int
    allowed: int = 1
    running: int = 0

    def double(self) -> None:
        self.allowed = min(2 * self.allowed, self.most)


class Turns:
    """The order of the attempts in one queue while the circuit is CLOSED.

    Args:
        failure_threshold: The failures in a row that open the circuit.
    """

    def __init__(self, failure_threshold: int) -> None:
        #: Whether the next attempt should be one of a new message rather than of a failed one.
        self.new_is_next = False
        # Whether a message has failed since the last success.
        self._failing = False
        self._ramps = {
            Kind.NEW: _Ramp(_NO_LIMIT),
            Kind.REDELIVERED: _Ramp(_NO_LIMIT),
            # If all of them fail, this must not be enough to open the circuit.
            Kind.FAILED: _Ramp(max(1, failure_threshold // 2)),
        }

    def may_attempt(self, kind: Kind, *, new_is_there: bool, new_may_come: bool) -> bool:
        """Whether a message that has failed, or may have, may be attempted.

        Args:
            kind: What is known about it.
            new_is_there: Whether there is a new message that could be attempted instead.
            new_may_come: Whether one may be delivered in a moment.
        """
        ramp = self._ramps[kind]
        if ramp.running >= ramp.allowed:
            return False
        if self._failing:
            # The next success shows whether the region works.
            return not (new_is_there or new_may_come or self._ramps[Kind.NEW].running)
        return not (new_is_there and self.new_is_next)

    def begin(self, kind: Kind) -> None:
        """Note that a message is attempted."""
        self.new_is_next = kind is not Kind.NEW
        self._ramps[kind].running += 1

    def end(self, kind: Kind) -> None:
        """Note that an attempt has ended, however it ended."""
        self._ramps[kind].running -= 1

    def succeeded(self, kind: Kind) -> None:
        """Note that an attempt went well."""
        self._failing = False
        self._ramps[kind].double()

    def failed(self, kind: Kind) -> None:
        """Note that an attempt has failed."""
        self._failing = True
        self._ramps[kind].allowed = 1
