"""StopSchedule: how the one deadline for stopping a consumer is divided among its steps."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Self

# The most seconds that are kept for what comes after the running calls.
_LONGEST_RESERVE = 4.0


@dataclass(frozen=True, slots=True)
class StopSchedule:
    """When each step of stopping has to be over, in the event loop's time.

    A step that the broker does not answer is given up then, so that the next ones have their time.

    Args:
        calls: The running calls, and requests to the broker that have begun before.
        cancelled_calls: The calls that were cancelled because they were still running.
        messages: Giving back the messages.
        channels: Closing the channels of the queues.
        end: All of it.
    """

    calls: float
    cancelled_calls: float
    messages: float
    channels: float
    end: float

    @classmethod
    def begin(cls, now: float, stop_timeout: float) -> Self:
        """Return the schedule of a consumer that begins to stop now.

        Args:
            now: The event loop's time.
            stop_timeout: Seconds that stopping may take in all.
        """
        reserve = min(_LONGEST_RESERVE, stop_timeout / 2)
        return cls._after_calls(now + stop_timeout - reserve, reserve)

    @classmethod
    def _after_calls(cls, calls: float, reserve: float) -> Self:
        # Each step has half of the time that is left.
        parts = (calls + reserve * share for share in (0.5, 0.75, 0.875, 1.0))
        return cls(calls, *parts)

    def without_calls(self, now: float) -> Self:
        """Return the schedule of a consumer whose calls have to be over now."""
        if now >= self.calls:
            return self
        return self._after_calls(now, self.end - self.calls)


async def complete_by(when: float, work: Coroutine[object, object, object]) -> bool:
    """Wait for something until a time, and give it up then.

    Args:
        when: The time, in the event loop's time.
        work: What is waited for.

    Returns:
        Whether it is done.
    """
    left = when - asyncio.get_running_loop().time()
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=max(0.0, left))
    finally:
        is_done = task.done()
        task.cancel()
    if is_done:
        task.result()
    return is_done
