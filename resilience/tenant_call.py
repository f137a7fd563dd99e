"""TenantCall: one call of a tenant that may be throttled, from its admission to its answer.

Calls that go well, of tenants that are not throttled, make none: see `protect_tenants`.
"""

from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, Protocol, TypeVar, cast

from resilience import scope
from resilience._lock import lock_is_held
from resilience.answers import read_limit
from resilience.circuit_name import CircuitName
from resilience.circuit_states import CircuitState
from resilience.classify import examine, is_throttled
from resilience.errors import TenantThrottledError
from resilience.judge import Classifiers
from resilience.limits import TenantProbe
from resilience.log import describe_exception, log_fault
from resilience.outcome import Outcome
from resilience.permit import Permit, RecordsOutcomes
from resilience.protect import Arguments, Keywords
from resilience.tenants import Tenants
from resilience.unfinished import must_be_awaited

T = TypeVar("T")

_NOT_ADMITTED = "its tenant is throttled"


class BreakerWithTenants(RecordsOutcomes, Protocol):
    """What a tenant's call needs of its circuit breaker."""

    region: str
    name: CircuitName

    @property
    def state(self) -> CircuitState:
        """The state that a call would meet now."""
        ...

    @property
    def tenants(self) -> Tenants:
        """The rate limits of the region's tenants."""
        ...

    def acquire(self, classifiers: Classifiers | None = None, /) -> Permit:
        """Admit a call, or raise the rejection."""
        ...


class TenantCall:
    """One call of a tenant.

    While it runs it is part of the `scope`, outside of its permit. A retry loop finds it there, and
    makes no further attempt for a tenant that is throttled.

    Args:
        breaker: The region's breaker.
        tenant: The tenant.
        classifiers: The function's own; None: the breaker's are asked.
        waits: Whether it waits while the tenant is throttled; else it is rejected.
    """

    __slots__ = (
        "_classifiers",
        "_is_reported",
        "_tenants",
        "_waits",
        "breaker",
        "generator",
        "outer",
        "probe",
        "tenant",
        "ticket",
    )

    def __init__(
        self,
        breaker: BreakerWithTenants,
        tenant: str,
        classifiers: Classifiers | None,
        *,
        waits: bool,
    ) -> None:
        self.breaker = breaker
        self.tenant = tenant
        #: Its leave to be the one call of a throttled tenant; None: the tenant was not throttled.
        self.probe: TenantProbe | None = None
        self._classifiers = classifiers
        self._waits = waits
        self._tenants = breaker.tenants
        # Whether the refusal of its last attempt is known already.
        self._is_reported = False
        # For the scope:
        self.outer: scope.ProtectedCall | None = None
        self.ticket: object | None = None
        self.generator: FrameType | None = None

    async def run_async(
        self, fn: Callable[..., Awaitable[T]], args: Arguments, kwargs: Keywords, /
    ) -> T:
        """Call an `async def` when the tenant may call, and report what became of it."""
        permit = self._admit()
        while permit is None:
            await self._tenants.wait(self.tenant)
            permit = self._admit()
        self._begin()
        try:
            result = await permit.call_async(fn, args, kwargs)
        except BaseException as error:
            self.raised(error)
            raise
        finally:
            self._end()
        self._returned(result)
        return result

    def run_sync(self, fn: Callable[..., T], args: Arguments, kwargs: Keywords, /) -> T:
        """Call a `def` when the tenant may call, and report what became of it."""
        permit = self._admit()
        while permit is None:
            self._tenants.wait_in_thread(self.tenant)
            permit = self._admit()
        self._begin()
        try:
            result = permit.call_sync(fn, args, kwargs)
        except BaseException as error:
            self.raised(error)
            raise
        finally:
            self._end()
        return self.returned_by_sync(result)

    def returned_by_sync(self, result: T) -> T:
        """Report on what a `def` returned; if it must be awaited, when it was."""
        if must_be_awaited(result):
            return cast("T", self._await(cast("Awaitable[object]", result)))
        self._returned(result)
        return result

    def raised(self, error: BaseException) -> None:
        """Report on what the function raised."""
        if self._is_reported:
            return
        outcome = self._report_refusal(error) if isinstance(error, Exception) else None
        if self.probe is None or self._is_reported:
            return
        if outcome is Outcome.ANSWERED:
            self._tenants.succeed(self.probe)
        else:
            self._tenants.give_back(self.probe)

    # For the retry loops

    def join(self, permit: scope.ProtectedCall) -> None:
        """Become part of the scope, outside of a permit that is there already."""
        self.ticket = self
        self.outer, permit.outer = permit.outer, self

    def leave(self) -> None:
        """End the call that has joined the scope."""
        self.ticket = None

    def allows_attempt(self, *, first: bool) -> bool:
        """Return whether a retry loop inside the call may make an attempt.

        Args:
            first: Whether it would be the first attempt of its loop.
        """
        if first or self.tenant not in self._tenants.throttles:
            return True
        if self.breaker.bypass is not None:
            return True
        return self.probe is not None and self._tenants.is_probing(self.probe)

    def attempt_failed(self, error: Exception) -> None:
        """Take note of the error of one attempt, while the call goes on."""
        self._is_reported = False
        self._report_refusal(error)

    def rejection(self) -> TenantThrottledError:
        """Return the error of a call that is rejected now."""
        wait = self._tenants.wait_of(self.tenant)
        return TenantThrottledError(self.breaker.region, self.tenant, wait)

    # Admitting

    def _admit(self) -> Permit | None:
        """Return the permit of the call; None: it must wait for its tenant."""
        if self.tenant not in self._tenants.throttles or self._is_inside_own_probe():
            return self.breaker.acquire(self._classifiers)
        leave = self._tenants.start(self.tenant)
        if leave is not None and not isinstance(leave, TenantProbe):
            if self.breaker.bypass is not None:  # the mode rejects nobody, and holds up nobody
                return self.breaker.acquire(self._classifiers)
            if self.breaker.state is CircuitState.OPEN:
                # This raises, unless the circuit has become due at this very moment.
                self.breaker.acquire(self._classifiers).abandon(_NOT_ADMITTED)
            if self._waits and not lock_is_held():  # a signal handler cannot wait
                return None
            raise TenantThrottledError(self.breaker.region, self.tenant, leave)
        self.probe = leave
        try:
            return self.breaker.acquire(self._classifiers)
        except BaseException:
            if leave is not None:
                self._tenants.give_back(leave)
            raise

    def _is_inside_own_probe(self) -> bool:
        """Whether the call is part of the probe of its tenant, which holds the only place."""
        for call in scope.enclosing_calls():
            if (
                isinstance(call, TenantCall)
                and call.breaker is self.breaker
                and call.tenant == self.tenant
                and call.probe is not None
                and self._tenants.is_probing(call.probe)
            ):
                return True
        return False

    # Running

    def _begin(self) -> None:
        self.ticket = self
        scope.enter(self)

    def _end(self) -> None:
        scope.leave(self)
        self.ticket = None

    async def _await(self, awaitable: Awaitable[T]) -> T:
        """Await what a `def` returned, and report what became of it."""
        self._begin()
        try:
            result = await awaitable
        except BaseException as error:
            self.raised(error)
            raise
        finally:
            self._end()
        self._returned(result)
        return result

    # Reporting

    def _returned(self, result: object) -> None:
        own = self._classifiers
        looks_at_results = own is not None and own.result_classifier is not None
        if looks_at_results or self.breaker.judge.result_classifier is not None:
            reading = read_limit(result)
            if reading.is_throttled:
                self._tenants.learn(reading, self.tenant, self.probe)
                return
        if self.probe is not None:
            self._tenants.succeed(self.probe)

    def _report_refusal(self, error: Exception) -> Outcome | None:
        """Throttle the tenant if the region refused it; return what the error says otherwise."""
        try:
            outcome, root, status = examine(error)
            if not is_throttled(root, status):
                return outcome
            reading = read_limit(error)
        except Exception as fault:  # noqa: BLE001 - the call's own error must reach the caller
            wrong = describe_exception(fault)
            log_fault("an error's class", type(error), wrong, self.breaker.name)
            return None
        self._is_reported = True
        self._tenants.learn(reading, self.tenant, self.probe)
        return None


class TenantPermit(Permit):
    """The permit of a call with retries, in a circuit that is CLOSED, of a tenant that may call.

    It has no `TenantCall` around it, and thus costs next to nothing, until an attempt fails.
    """

    # Set from outside: an `__init__` of its own would cost as much as the rest of the permit.
    __slots__ = ("make", "tenant", "tenant_call")

    #: Makes the call that the permit belongs to.
    make: Callable[[Any, str], TenantCall]
    #: The tenant.
    tenant: str
    #: That call; None: no attempt has failed.
    tenant_call: TenantCall | None

    def join_tenant_call(self) -> TenantCall:
        """Return the call that the permit belongs to; from now on it is part of the scope."""
        if self.tenant_call is None:
            self.tenant_call = self.make(self.breaker, self.tenant)
            self.tenant_call.join(self)
        return self.tenant_call

    def end_tenant_call(self, error: BaseException) -> None:
        """Report on what the function raised."""
        call = self.tenant_call or self.make(self.breaker, self.tenant)
        call.leave()
        call.raised(error)


def call_of_tenant(permit: scope.ProtectedCall) -> TenantCall | None:
    """Return the call of a tenant that a permit belongs to; None: it has no tenant."""
    if isinstance(permit, TenantPermit):
        return permit.join_tenant_call()
    outer = permit.outer
    if isinstance(outer, TenantCall) and outer.breaker is permit.breaker:
        return outer
    return None
