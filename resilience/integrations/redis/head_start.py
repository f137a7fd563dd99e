"""How long a process of a large fleet waits before it requests a lease that is free."""

import random
from typing import Final

# Up to this many processes may request a lease at the same moment. Of a larger fleet, one does so
# every so many seconds, and none waits longer than the last number says.
_SMALL_FLEET: Final = 100
_SECONDS_APART: Final = 0.0002
_LONGEST: Final = 2.0


def head_start(fleet_size: int) -> float:
    """Return how many seconds a process leaves the others when the lease is free.

    All processes of a large fleet would request it at the same moment, and the store could not
    answer them in time. Since it is random, the first one is as early as it would be otherwise.

    Args:
        fleet_size: The number of processes.
    """
    longest = max(0, fleet_size - _SMALL_FLEET) * _SECONDS_APART
    return random.uniform(0.0, min(longest, _LONGEST))  # noqa: S311 - not a secret
