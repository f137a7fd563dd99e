"""Probing: how many new messages the next probe chooses from."""

from dataclasses import dataclass

# The new messages that the second probe chooses from; each further one chooses from twice as many.
_FIRST_CHOICE = 10
_MAX_DOUBLINGS = 16


@dataclass(slots=True)
class Probing:
    """The probes of one queue since its circuit was CLOSED.

    A probe chooses from more new messages with each probe that fails. In an outage this changes
    nothing. But if the messages at the head of the queue always fail, the probes get past them.

    Args:
        prefetch: The most messages that the first probes may let in.
        most: The most messages that any probe chooses from.
    """

    prefetch: int
    most: int
    #: The probes with messages that had not failed before which have failed.
    failed: int = 0

    @property
    def has_choice(self) -> bool:
        """Whether the oldest messages may be of the same kind as those that have failed."""
        return self.failed > 0

    def choice(self, half_open_probes: int) -> int:
        """Return how many new messages a probe chooses from.

        Args:
            half_open_probes: The probes that may run at the same time.
        """
        probes = min(self.prefetch, half_open_probes)
        if not self.failed:
            return probes
        doublings = min(self.failed - 1, _MAX_DOUBLINGS)
        return max(probes, min(_FIRST_CHOICE << doublings, self.most))
