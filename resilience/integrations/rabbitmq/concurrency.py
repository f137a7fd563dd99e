"""How many calls of one region may run at the same time, over all queues of this process.

An OPEN circuit lets none start, a HALF_OPEN one its probes, a CLOSED one as many as the largest
prefetch. After an opening there is a slow start: the limit begins at one, and each of its steps of
1, 2, 4, ... ends after that many calls that went well.

A policy with a `ramp` gives the start and the factor of the slow start instead.

The limit reads the circuit and acquires no permit: the protected call inside the handler does that.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from resilience.breaker import CircuitBreaker
from resilience.circuit_states import CircuitState
from resilience.events import StateChanged
from resilience.integrations.rabbitmq.evidence import RegionEvidence
from resilience.integrations.rabbitmq.handler import Attempt
from resilience.integrations.rabbitmq.pacing import Pacing
from resilience.mode import Mode
from resilience.outcome import Outcome

# Seconds after which the circuit is read again: no event says that a probe has become due, nor
# that a probe of other code has given its place back.
_POLL_INTERVAL = 1.0
# The slow start, unless the policy has its own ramp.
_RAMP = (1, 2.0)
# How many more calls may run for tenants that are paced, as a share of all.
_PACED_SHARE = 0.1


@dataclass(eq=False, slots=True)
class Slot:
    """Permission to run one call of the handler; to be released when the call has ended."""

    limit: "ConcurrencyLimit"
    #: When the call began, in the event loop's time.
    since: float = 0.0

    def release(self) -> None:
        """Let the next call run."""
        self.limit.release(self)


@dataclass(eq=False, slots=True)
class _Waiter:
    """A request for a slot."""

    slot: Slot
    only_at_full_rate: bool
    granted: asyncio.Future[bool]


@dataclass(eq=False, slots=True)
class _Attached:
    """A queue that the limit applies to."""

    prefetch: int
    wake: Callable[[], object]


class ConcurrencyLimit:
    """The limit for the calls of one region in one event loop.

    Args:
        breaker: The region's breaker.
    """

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        #: Which failures count against the messages.
        self.evidence = RegionEvidence(breaker)
        #: When the messages of a tenant may be attempted.
        self.pacing = Pacing(breaker, self._wake)
        # The step of the slow start; None at full rate.
        self._step: int | None = None
        self._factor: float = 1.0
        self._successes_in_step = 0
        # Whether a success counts towards the next step. The one that closed the circuit does not:
        # it was a probe's.
        self._counts_successes = False
        self._attached: list[_Attached] = []
        # The largest prefetch of them.
        self._full_rate = 0
        # The slots granted since the circuit opened last.
        self._slots: set[Slot] = set()
        # Those of tenants that are paced, which come on top.
        self._paced_slots: set[Slot] = set()
        self._waiters: list[_Waiter] = []
        # Set when the watcher has something to do.
        self._changed = asyncio.Event()
        # Ends the watcher and the listener.
        self._following = ExitStack()

    # The queues

    def attach(self, prefetch: int, wake: Callable[[], object]) -> Callable[[], None]:
        """Apply the limit to another queue.

        Args:
            prefetch: The most calls that this queue may have running.
            wake: Called when the limit or the circuit has changed.

        Returns:
            A function that detaches the queue.
        """
        attached = _Attached(prefetch, wake)
        if not self._attached:
            self._follow_circuit()
        self._attached.append(attached)
        self._full_rate = max(one.prefetch for one in self._attached)

        def detach() -> None:
            self._attached.remove(attached)
            self._full_rate = max((one.prefetch for one in self._attached), default=0)
            if not self._attached:
                self._following.close()

        return detach

    @property
    def in_use(self) -> bool:
        """Whether any queue is attached."""
        return bool(self._attached)

    def _follow_circuit(self) -> None:
        loop = asyncio.get_running_loop()

        def listener(event: StateChanged) -> None:  # Called in any thread.
            if event.mode is not Mode.ENFORCE:
                return  # Every call is made, whatever the circuit would do.
            with suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(self._on_state_change, event.new)

        self._following.callback(self._breaker.listen(listener))
        if self._breaker.state is not CircuitState.CLOSED:
            self._step, self._factor = self._ramp
        watcher = loop.create_task(self._watch())
        self._following.callback(watcher.cancel)

    # The limit

    @property
    def max_calls(self) -> int:
        """How many calls may run at the same time while the circuit is CLOSED."""
        full = self._full_rate
        return full if self._step is None else min(self._step, full)

    @property
    def _max_paced_calls(self) -> int:
        return math.ceil(self.max_calls * _PACED_SHARE)

    @property
    def is_closed(self) -> bool:
        """Whether the circuit is CLOSED."""
        # `closed` costs next to nothing, and is None after a failure as well.
        return self._breaker.closed is not None or self._breaker.state is CircuitState.CLOSED

    @property
    def at_full_rate(self) -> bool:
        """Whether the region takes as many calls as before its last opening."""
        return self._step is None and self.is_closed

    @property
    def _ramp(self) -> tuple[int, float]:
        """The start and the factor of the slow start: those of the policy's ramp, if it has one."""
        return self._breaker.policy.ramp or _RAMP

    def record_end(self, attempt: Attempt, began: int) -> None:
        """Take note of an attempt after which a message is done with, or goes to `on_error`.

        Args:
            attempt: What came of it.
            began: The position of its beginning in the order of `evidence`.
        """
        self.record_success()
        error = attempt.error
        if error is None or self._breaker.classify(error) is Outcome.ANSWERED:
            self.confirm_failures(began)

    def record_success(self) -> None:
        """Count a call that went well: the next step of the slow start may begin."""
        if self._step is None or not self._counts_successes:
            return
        self._successes_in_step += 1
        if self._successes_in_step >= self._step:
            next_step = math.ceil(self._step * self._factor)
            self._step = None if next_step >= self._full_rate else next_step
            self._successes_in_step = 0
            self._serve_and_wake()

    def confirm_failures(self, began: int) -> None:
        """Count the failures that a call which went well has shown to be the messages' own.

        Args:
            began: The position of its beginning in the order of `evidence`.
        """
        if self.evidence.record_success(began):
            self._wake()

    # Slots

    def try_acquire(self, *, paced: bool = False) -> Slot | None:
        """Return a slot if one is free and nobody waits for it, else None.

        Args:
            paced: Whether it is for a tenant that is paced. Those have a few slots of their own, so
                that they take none from the others.
        """
        if paced and self.is_closed and len(self._paced_slots) < self._max_paced_calls:
            slot = Slot(self, _now())
            self._paced_slots.add(slot)
            return slot
        if self._waiters or not self._has_free_slot():
            return None
        slot = Slot(self)
        self._take(slot)
        return slot

    async def acquire(self) -> Slot:
        """Wait for a slot, first come, first served."""
        slot = Slot(self)
        await self._wait_for(slot, only_at_full_rate=False)
        return slot

    async def acquire_at_full_rate(self, *, paced: bool = False) -> Slot | None:
        """Wait for a slot only as long as the region is at full rate.

        Args:
            paced: Whether it is for a tenant that is paced.

        Returns:
            The slot; None if the region is not at full rate, or no longer.
        """
        if not self.at_full_rate:
            return None
        free = self.try_acquire(paced=paced)
        if free is not None:
            return free
        slot = Slot(self)
        granted = await self._wait_for(slot, only_at_full_rate=True)
        return slot if granted else None

    def release(self, slot: Slot) -> None:
        """Take back a slot whose call has ended."""
        self._slots.discard(slot)
        self._paced_slots.discard(slot)
        if self._waiters:
            self._serve()

    async def _wait_for(self, slot: Slot, *, only_at_full_rate: bool) -> bool:
        granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(slot, only_at_full_rate, granted)
        self._waiters.append(waiter)
        self._serve()
        if not granted.done():
            self._changed.set()
        try:
            return await granted
        except asyncio.CancelledError:
            # The slot may have been granted just before the cancellation arrived.
            if not granted.cancelled() and granted.result():
                slot.release()
            raise
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _serve(self) -> None:
        """Answer all requests that can be answered now."""
        for waiter in tuple(self._waiters):
            if waiter.granted.done():
                continue
            if waiter.only_at_full_rate and not self.at_full_rate:
                waiter.granted.set_result(False)
            elif self._has_free_slot():
                self._take(waiter.slot)
                waiter.granted.set_result(True)

    def _take(self, slot: Slot) -> None:
        slot.since = _now()
        self._slots.add(slot)

    def _has_free_slot(self) -> bool:
        if self.is_closed:
            return len(self._slots) < self.max_calls
        if self._breaker.state is CircuitState.OPEN or self._breaker.retry_after != 0.0:
            return False
        return len(self._within_lease()) < self._breaker.policy.half_open_probes

    def _within_lease(self) -> set[Slot]:
        """Return the slots of probes whose lease has not run out."""
        lease, now = self._breaker.policy.probe_lease, _now()
        return {slot for slot in self._slots if now - slot.since < lease}

    # The circuit

    def _on_state_change(self, state: CircuitState) -> None:
        self._counts_successes = state is CircuitState.CLOSED
        # A call that hangs from before the change must not keep the next one waiting: its result
        # will be dropped anyway.
        if state is CircuitState.OPEN:
            (self._step, self._factor), self._successes_in_step = self._ramp, 0
            self._slots, self._paced_slots = set(), set()
            self.evidence.drop_pending()
            self.pacing.end_drain(self.pacing.drain, why="the circuit is OPEN")
        elif state is CircuitState.CLOSED:
            self._slots = self._within_lease()
            self.pacing.begin_drain()
            if self.pacing.knows_limit and self._breaker.policy.ramp is None:
                self._step = None  # The pace is gentle enough.
        elif self._step is None:  # The circuit opened while its mode kept nobody away.
            self._step, self._factor = self._ramp
        self._changed.set()
        self._serve_and_wake()

    # That the mode has changed is not an event of the circuit.

    def notice_opening(self) -> None:
        """Begin a slow start if the circuit opened while its mode kept nobody away."""
        if self._step is None and not self.is_closed:
            self._on_state_change(self._breaker.state)

    def _follow_mode(self) -> None:
        """Go on at full rate after an opening that keeps nobody away any more."""
        if self._step is not None and not self._counts_successes:
            self._step = None
            self._on_state_change(CircuitState.CLOSED)

    def _serve_and_wake(self) -> None:
        self._serve()
        self._wake()

    def _wake(self) -> None:
        for attached in tuple(self._attached):
            attached.wake()

    async def _watch(self) -> None:
        """Notice when a probe becomes due, which is not an event of the circuit."""
        while True:
            self._changed.clear()
            state = self._breaker.state
            if state is CircuitState.CLOSED:
                if self._breaker.bypass is not None:
                    self._follow_mode()
                await self._changed.wait()
                continue
            if self._waiters:
                # Wait for the circuit only if there is a message to probe with: if the circuit is
                # shared, waiting reserves the one place that all processes have.
                await self._breaker.wait_until_ready()
            pause = _POLL_INTERVAL
            if self._waiters or state is CircuitState.HALF_OPEN:
                self._serve_and_wake()
            else:
                pause = min(pause, self._breaker.retry_after or pause)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()


_limits: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[CircuitBreaker, ConcurrencyLimit]] = (
    WeakKeyDictionary()
)


def attach_to_limit(
    breaker: CircuitBreaker, prefetch: int, wake: Callable[[], object]
) -> tuple[ConcurrencyLimit, Callable[[], None]]:
    """Attach a queue to the limit of its region, which all its queues in this event loop share.

    Args:
        breaker: The region's breaker.
        prefetch: The most calls that this queue may have running.
        wake: Called when the limit or the circuit has changed.

    Returns:
        The limit, and a function that detaches the queue from it.
    """
    limits = _limits.setdefault(asyncio.get_running_loop(), {})
    if breaker not in limits:
        limits[breaker] = ConcurrencyLimit(breaker)
    limit = limits[breaker]
    detach_queue = limit.attach(prefetch, wake)

    def detach() -> None:
        detach_queue()
        if not limit.in_use:
            del limits[breaker]

    return limit, detach
