"""Timing: how long things take between a process and the store."""

from dataclasses import dataclass
from typing import Final

# An answer that took more seconds, and more than the socket timeout, is from before a pause of this
# process: the request is repeated.
_STALE_AFTER: Final = 2.0


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take.

    Args:
        poll_interval: Seconds between two polls, on average.
        socket_timeout: Seconds until the store counts as gone.
    """

    poll_interval: float
    socket_timeout: float

    @property
    def stale_after(self) -> float:
        """Seconds after which an answer or a notification says too little about the present."""
        return max(_STALE_AFTER, self.socket_timeout)
