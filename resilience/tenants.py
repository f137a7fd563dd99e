"""Tenants: what the calls of one region know of its tenants' rate limits.

Here are the clock, the lock, those that wait, and the listeners. What is decided, is decided in
`resilience.limits`.
"""

import asyncio
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar

from resilience import _validate
from resilience._lock import lock, lock_is_held, postpone
from resilience.answers import read_limit
from resilience.circuit_name import CircuitName
from resilience.circuit_states import CircuitState, Closed
from resilience.events import TenantThrottled
from resilience.limits import (
    LimitReading,
    RateLimit,
    TenantProbe,
    TenantTable,
    Throttle,
    ThrottledTenants,
)
from resilience.listeners import Listeners, Subscribers, call_listener
from resilience.log import describe_exception, log_fault
from resilience.policy import BreakerPolicy
from resilience.waiters import WaitQueue, runs_in_event_loop

T = TypeVar("T")
NO_TENANTS = ThrottledTenants(0, 0.0, {})


class HasTenants(Protocol):
    """What the tenants need of their region's circuit breaker."""

    region: str
    name: CircuitName
    #: The ticket of every call that the circuit would reject, where it rejects nobody; else None.
    bypass: Closed | None

    @property
    def policy(self) -> BreakerPolicy:
        """The thresholds in force."""
        ...

    def make_tenant_table(self) -> TenantTable:
        """Return the table for what is known of the tenants."""
        ...

    @property
    def state(self) -> CircuitState:
        """The state that a call would meet now."""
        ...

    def now(self) -> float:
        """Return the breaker's time, in seconds."""
        ...

    def make_wait_queue(self, expects_call: Callable[[], float | None]) -> WaitQueue:
        """Return a queue that follows the breaker's clock."""
        ...

    def on_information(self, now: float) -> None:
        """Take note that the breaker holds other information than before."""
        ...


@dataclass(slots=True)
class _Line:
    """The calls of one tenant that wait."""

    queue: WaitQueue
    waiting: int = 0


class Tenants:
    """The tenants of one region.

    Args:
        breaker: The region's breaker.
        subscribers: The registry that the breaker belongs to; None: it stands alone.
    """

    __slots__ = ("_breaker", "_lines", "_listeners", "_now", "_subscribers", "_table")

    def __init__(self, breaker: HasTenants, subscribers: Subscribers | None) -> None:
        self._breaker = breaker
        self._subscribers = subscribers
        self._table = breaker.make_tenant_table()
        self._listeners: Listeners[TenantThrottled] = Listeners("one TenantThrottled")
        self._lines: dict[str, _Line] = {}
        # The latest time that the clock has shown.
        self._now = 0.0

    # What is known

    @property
    def throttles(self) -> Mapping[str, Throttle]:
        """Those whose next call may not simply start; only to look a tenant up."""
        return self._table.throttles

    def wait_of(self, tenant: str) -> float:
        """Return the seconds until a call of a tenant may start, as far as is known; 0.0 is now."""
        return self._read(lambda now: self._table.wait_of(tenant, now))

    def limit_of(self, tenant: str | None = None) -> RateLimit | None:
        """Return what the region allows a tenant; None: nobody has said it.

        Args:
            tenant: The tenant; None: each one of which nothing else is known.
        """
        return self._read(lambda _: self._table.limit_of(tenant))

    def throttled(self) -> ThrottledTenants:
        """Return the tenants that wait now; their names may be customers'."""
        return self._read(self._table.throttled)

    def describe(self, now: float) -> ThrottledTenants:
        """Return the same for the breaker, which has the lock and the time already."""
        return self._table.throttled(now)

    def listen(self, listener: Callable[[TenantThrottled], object]) -> Callable[[], None]:
        """Call a function whenever an answer throttles a tenant, or ends its throttle.

        Not with what `throttle` takes over, so that a listener may publish it to other processes.

        Args:
            listener: Takes one `TenantThrottled`; what it raises is logged.

        Returns:
            A function that ends it.

        Raises:
            TypeError: The listener cannot be called, or is an `async def`.
        """
        return self._listeners.add(listener)

    # What is found out

    def observe(self, answer: object, tenant: str | None = None) -> None:
        """Learn from an answer, whatever its class; nothing is raised for a strange one.

        Args:
            answer: A response, or an error that holds one.
            tenant: Whose call it was; None: the limit is that of each tenant.
        """
        self.learn(read_limit(answer), tenant)

    def learn(
        self, reading: LimitReading, tenant: str | None, probe: TenantProbe | None = None
    ) -> None:
        """Take in what an answer says.

        Args:
            reading: What it says.
            tenant: Whose call it was; None: the limit is that of each tenant.
            probe: The call's, if it was one.
        """
        if lock_is_held():  # at the end of a generator that is collected
            postpone(partial(self.learn, reading, tenant, probe))
            return
        now = self._time_of_report()
        with lock:
            wait = self._table.learn(reading, tenant, now, probe)
            if tenant is not None:
                self._wake(tenant)
        if tenant is not None and wait is not None:
            self._after_change(tenant, wait, now)

    def throttle(self, tenant: str, seconds: float) -> None:
        """Take over that a tenant is throttled, as another process has found out.

        Args:
            tenant: The tenant.
            seconds: How long it has to wait from now on; 0: its throttle has ended.

        Raises:
            TypeError: The tenant is not a string, or `seconds` is not a number.
            ValueError: The tenant is empty, or `seconds` is negative or infinite.
        """
        _validate.check_text("tenant", tenant)
        _validate.check_amount("seconds", seconds)
        now = self._breaker.now()
        with lock:
            self._table.apply(tenant, seconds, now)
            self._wake(tenant)
        self._breaker.on_information(now)

    def apply(self, change: Callable[[float], str]) -> None:
        """Change what is known of a tenant, as the store of a fleet says.

        Args:
            change: Takes the time in seconds and returns the tenant; called under the lock.
        """
        now = self._breaker.now()
        with lock:
            self._wake(change(now))
        self._breaker.on_information(now)

    # One call

    def expects_call(self, tenant: str) -> float:
        """Return the seconds until a call may start, for a caller that means to call; 0.0 is now.

        Where other processes share what they know, one of them at a time may probe: the first
        caller that is due asks for that, and comes back.
        """
        return self._read(lambda now: self._table.expects_call(tenant, now))

    def begin_attempt(self, tenant: str) -> None:
        """Take note that something is attempted for a tenant that is throttled, without `start`."""
        lease = self._breaker.policy.probe_lease
        self._read(lambda now: self._table.begin_attempt(tenant, lease, now))

    def end_attempt(self, tenant: str) -> None:
        """Take note that the attempt has ended; before, tell what it has found out."""
        with lock:
            self._table.end_attempt(tenant)

    def start(self, tenant: str) -> TenantProbe | float | None:
        """Ask whether a call may start.

        Returns:
            None: it may. A probe: it may, and `succeed`, `give_back` or `learn` must end the probe.
            A number: it may not, and should come back after this many seconds.
        """
        if lock_is_held():  # in a signal handler: the table may be in a change
            return 0.0 if tenant in self._table.throttles else None
        now = self._now = self._breaker.now()
        with lock:
            answer = self._table.start(tenant, self._breaker.policy.probe_lease, now)
            if answer is None:  # a hold may have ended
                self._wake(tenant)
        return answer

    def succeed(self, probe: TenantProbe) -> None:
        """End a throttle, because its probe was answered."""
        if lock_is_held():
            postpone(partial(self.succeed, probe))
            return
        now = self._time_of_report()
        with lock:
            is_over = self._table.succeed(probe, now)
            self._wake(probe.tenant)
        if is_over:
            self._after_change(probe.tenant, 0.0, now)

    def give_back(self, probe: TenantProbe) -> None:
        """Let another call be the probe: this one has found out nothing."""
        if lock_is_held():
            postpone(partial(self.give_back, probe))
            return
        with lock:
            self._table.give_back(probe)
            self._wake(probe.tenant)

    def is_probing(self, probe: TenantProbe) -> bool:
        """Whether a call still has the place of the probe."""
        return self._table.is_probing(probe)

    # Waiting

    async def wait(self, tenant: str, timeout: float | None = None) -> bool:
        """Wait until a call of a tenant may start, or the circuit is OPEN; it reserves nothing.

        Args:
            tenant: The tenant.
            timeout: Seconds to wait at most; None waits as long as it takes.

        Returns:
            False when the time was up before that.

        Raises:
            TypeError: The timeout is not a number.
            ValueError: The timeout is negative or NaN.
        """
        _validate.check_timeout(timeout)
        with self._in_line(tenant) as queue:
            return await queue.wait(timeout)

    def wait_in_thread(self, tenant: str) -> None:
        """Wait as `wait` does, in a thread that runs no event loop.

        Raises:
            RuntimeError: An event loop runs in this thread, and would stand still.
        """
        if runs_in_event_loop():
            what = "a `def` that waits for its tenant would hold up the event loop of its thread"
            raise RuntimeError(f"{what}: call it in another thread, or make it an `async def`")
        # The queue is asyncio's. A loop of its own costs less than a millisecond.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(self.wait(tenant))

    def waiting(self, tenant: str) -> int:
        """Return how many calls of a tenant wait."""
        line = self._lines.get(tenant)
        return 0 if line is None else line.waiting

    def wake_all(self) -> None:
        """Let all that wait look again: the circuit has changed; the caller holds the lock."""
        for line in self._lines.values():
            line.queue.wake_all()

    @contextmanager
    def _in_line(self, tenant: str) -> Generator[WaitQueue]:
        made = _Line(self._breaker.make_wait_queue(partial(self._expects_call, tenant)))
        with lock:
            line = self._lines.setdefault(tenant, made)
            line.waiting += 1
        try:
            yield line.queue
        finally:
            with lock:
                line.waiting -= 1
                if not line.waiting:
                    self._lines.pop(tenant, None)

    def _expects_call(self, tenant: str) -> float | None:
        if self._breaker.bypass is not None:
            return 0.0  # nobody is rejected
        if self._breaker.state is CircuitState.OPEN:
            return 0.0  # the call is rejected, and need not wait for that
        return self.expects_call(tenant)

    def _wake(self, tenant: str) -> None:
        """Let those that wait look again; the caller holds the lock."""
        line = self._lines.get(tenant)
        if line is None:
            return
        if tenant in self._table.throttles:
            line.queue.wake_first()
        else:
            line.queue.wake_all()

    # After each change

    def _after_change(self, tenant: str, wait: float, now: float) -> None:
        self._breaker.on_information(now)
        entries = self._listeners.entries
        if self._subscribers is not None:
            entries += self._subscribers.throttle_listeners.entries
        if not entries:
            return
        name = self._breaker.name
        event = TenantThrottled(
            region=name.region,
            tenant=tenant,
            wait=wait,
            at=now,
            time=datetime.now(UTC),
            registry=name.registry,
        )
        exit_error: BaseException | None = None
        for entry in entries:
            exit_error = call_listener(entry, event, name) or exit_error
        if exit_error is not None:
            raise exit_error

    def _time_of_report(self) -> float:
        try:
            self._now = self._breaker.now()
        except Exception as fault:  # noqa: BLE001 - the call's own error or result goes first
            log_fault("clock", type(self), describe_exception(fault), self._breaker.name)
        return self._now

    def _read(self, query: Callable[[float], T]) -> T:
        now = self._breaker.now()
        with lock:
            return query(now)
