"""The wrappers of functions whose tenants have rate limits of their own, one per colour.

They do what those in `protect` do, and look up the tenant as well. A call of a tenant that is not
throttled pays for that look-up and for nothing else. Every other call is a `TenantCall`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from resilience._validate import is_async
from resilience.circuit_states import Closed
from resilience.judge import Classifiers
from resilience.protect import (
    AdmitsCalls,
    Arguments,
    BreakerLookup,
    CallWithPermit,
    Keywords,
    MakesWrapper,
    first_attempt_of,
)
from resilience.tenant_call import BreakerWithTenants, TenantCall, TenantPermit
from resilience.unfinished import ResultWatch, unfinished


class AdmitsTenants(BreakerWithTenants, AdmitsCalls, Protocol):
    """What a wrapper needs of a circuit breaker."""

    #: Those whose next call may not simply start.
    throttled_tenants: Collection[str]


@dataclass(frozen=True, slots=True)
class TenantLookup:
    """How the calls of a function find their tenant.

    Args:
        find: Returns the tenant of a call, or refuses the call.
        check: Returns a tenant that is not a plain string as one, or refuses it.
        position: Where among the positional arguments the tenant, or its holder, is.
        getters: What gets the tenant from its holder, by the type of that; None: the argument is
            the tenant itself, or `find` must be asked.
        waits: Whether the calls of a throttled tenant wait; else they are rejected.
    """

    find: Callable[[Arguments, Keywords], str]
    check: Callable[[object], str]
    position: int
    getters: Mapping[type, Callable[[object], object]] | None
    waits: bool


def protect_with_tenants(tenants: TenantLookup) -> MakesWrapper:
    """Return what makes the wrapper of a function whose calls have a tenant.

    Args:
        tenants: How its calls find their tenant.
    """

    def make_wrapper(
        fn: Callable[..., Any],
        lookup: BreakerLookup,
        classifiers: Classifiers | None,
        watch: ResultWatch,
        call_with_permit: CallWithPermit | None,
    ) -> Callable[..., Any]:
        calls = _Calls(fn, lookup, classifiers, watch, waits=tenants.waits)
        first_attempt = first_attempt_of(fn)
        if first_attempt is not None:
            first_attempt.report_to_tenants()
            if classifiers is None or classifiers.result_classifier is None:
                calls.call_retried = first_attempt.in_circuit(classifiers, watch, _ready_permit)
        wrap = _protect_async if is_async(fn) else _protect_sync
        return wrap(calls, lookup, tenants, with_permit=call_with_permit is not None)

    return make_wrapper


def _ready_permit(
    permit: TenantPermit, _closed: Closed, _classifiers: Classifiers | None
) -> TenantPermit:
    """Take the permit that stands in the place of the breaker."""
    return permit


class _Calls:
    """What is done for the calls of one function that do not simply go well.

    Args:
        fn: The function.
        lookup: How its calls find their breaker.
        classifiers: The function's own; None: the breaker's are asked.
        watch: Notices that a result is not finished.
        waits: Whether the calls of a throttled tenant wait.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        lookup: BreakerLookup,
        classifiers: Classifiers | None,
        watch: ResultWatch,
        *,
        waits: bool,
    ) -> None:
        self._fn = fn
        self._lookup = lookup
        self._classifiers = classifiers
        self._watch = watch
        self._waits = waits
        #: Calls the function, whose first attempt is made outside of its loop; None: it is not.
        self.call_retried: Callable[..., Any] | None = None
        #: The function; if it is an `async def`, its first results are looked at.
        self.fn = watch.watch_first_call(fn, self._end_watch) if is_async(fn) else fn

    def find_region(self, args: Arguments, kwargs: Keywords) -> object:
        """Return the region of a call, or its holder, that is not at its position."""
        keyword = self._lookup.keyword
        return kwargs[keyword] if keyword in kwargs else self._lookup.locate(args, kwargs)

    def find_breaker(self, region: object) -> AdmitsTenants:
        """Return the breaker of a region that is met for the first time, or refuse the region."""
        return cast("AdmitsTenants", self._lookup.find(region))

    async def run_async(
        self, breaker: AdmitsTenants, tenant: str, args: Arguments, kwargs: Keywords
    ) -> Any:
        """Call an `async def` that needs a permit, or whose tenant is throttled."""
        closed, call_retried = breaker.closed, self.call_retried
        if closed is None or call_retried is None or tenant in breaker.throttled_tenants:
            return await self._make(breaker, tenant).run_async(self.fn, args, kwargs)
        permit = TenantPermit()
        permit.begin(breaker, closed, self._classifiers)
        permit.make, permit.tenant, permit.tenant_call = self._make, tenant, None
        try:
            result = await call_retried(permit, closed, args, kwargs)
        except BaseException as error:
            permit.end_tenant_call(error)
            raise
        if permit.tenant_call is not None:
            permit.tenant_call.leave()
        return result

    def run_sync(
        self, breaker: AdmitsTenants, tenant: str, args: Arguments, kwargs: Keywords
    ) -> Any:
        """Call a `def` that needs a permit, or whose tenant is throttled."""
        closed, call_retried = breaker.closed, self.call_retried
        if closed is None or call_retried is None or tenant in breaker.throttled_tenants:
            return self._watch.checked(self._make(breaker, tenant).run_sync(self.fn, args, kwargs))
        permit = TenantPermit()
        permit.begin(breaker, closed, self._classifiers)
        permit.make, permit.tenant, permit.tenant_call = self._make, tenant, None
        try:
            result = call_retried(permit, closed, args, kwargs)
        except BaseException as error:
            permit.end_tenant_call(error)
            raise
        if permit.tenant_call is not None:
            permit.tenant_call.leave()
        if unfinished.of(type(result)) is None:
            return result
        return self._make(breaker, tenant).returned_by_sync(result)

    def raised(
        self, breaker: AdmitsTenants, tenant: str, closed: Closed, error: BaseException
    ) -> None:
        """Report what a call raised that had no permit."""
        breaker.record_error(closed, error, self._classifiers)
        self._make(breaker, tenant).raised(error)

    def finish(self, breaker: AdmitsTenants, tenant: str, closed: Closed, result: object) -> object:
        """Return what a `def` without a permit returned, which may have to be awaited."""
        permit = breaker.permit_in(closed, self._classifiers)
        result = self._watch.checked(permit.returned_by_sync(result))
        return self._make(breaker, tenant).returned_by_sync(result)

    def _make(self, breaker: AdmitsTenants, tenant: str) -> TenantCall:
        return TenantCall(breaker, tenant, self._classifiers, waits=self._waits)

    def _end_watch(self) -> None:
        self.fn = self._fn


# As in `protect`, the two wrappers say the same, and look up what every call needs themselves: the
# breaker, and the tenant where it is at its position and at most one step away.


def _protect_async(
    calls: _Calls, lookup: BreakerLookup, tenants: TenantLookup, *, with_permit: bool
) -> Callable[..., Any]:
    breakers = cast("Mapping[Any, AdmitsTenants]", lookup.breakers)
    position, follow = lookup.position, lookup.follow
    tenant_position, getters, find_tenant = tenants.position, tenants.getters, tenants.find

    async def protected(*args: Any, **kwargs: Any) -> Any:
        region = args[position] if position < len(args) else calls.find_region(args, kwargs)
        if follow is not None:
            region = follow(region)
        try:
            breaker = breakers[region]
        except Exception:  # noqa: BLE001 - new, or an object of any class, which is refused
            breaker = calls.find_breaker(region)
        try:
            tenant = args[tenant_position]
            if getters is not None:
                tenant = getters[type(tenant)](tenant)
        except Exception:  # noqa: BLE001 - it is found in another way, or refused
            tenant = find_tenant(args, kwargs)
        if type(tenant) is not str or not tenant:
            tenant = tenants.check(tenant)
        closed = breaker.closed
        if closed is None or with_permit or tenant in breaker.throttled_tenants:
            return await calls.run_async(breaker, tenant, args, kwargs)
        try:
            result = await (calls.fn(*args, **kwargs) if kwargs else calls.fn(*args))
        except BaseException as error:
            calls.raised(breaker, tenant, closed, error)
            raise
        if closed.streak:
            breaker.end_streak(closed)
        closed.successes += 1
        return result

    return protected


def _protect_sync(
    calls: _Calls, lookup: BreakerLookup, tenants: TenantLookup, *, with_permit: bool
) -> Callable[..., Any]:
    breakers = cast("Mapping[Any, AdmitsTenants]", lookup.breakers)
    fn, position, follow = calls.fn, lookup.position, lookup.follow
    tenant_position, getters, find_tenant = tenants.position, tenants.getters, tenants.find

    def protected(*args: Any, **kwargs: Any) -> Any:
        region = args[position] if position < len(args) else calls.find_region(args, kwargs)
        if follow is not None:
            region = follow(region)
        try:
            breaker = breakers[region]
        except Exception:  # noqa: BLE001 - new, or an object of any class, which is refused
            breaker = calls.find_breaker(region)
        try:
            tenant = args[tenant_position]
            if getters is not None:
                tenant = getters[type(tenant)](tenant)
        except Exception:  # noqa: BLE001 - it is found in another way, or refused
            tenant = find_tenant(args, kwargs)
        if type(tenant) is not str or not tenant:
            tenant = tenants.check(tenant)
        closed = breaker.closed
        if closed is None or with_permit or tenant in breaker.throttled_tenants:
            return calls.run_sync(breaker, tenant, args, kwargs)
        try:
            result = fn(*args, **kwargs) if kwargs else fn(*args)
        except BaseException as error:
            calls.raised(breaker, tenant, closed, error)
            raise
        try:
            how = unfinished[type(result)]
        except BaseException:  # noqa: BLE001 - its metaclass may not be hashable
            how = unfinished.of(type(result))
        if how is not None:
            return calls.finish(breaker, tenant, closed, result)
        if closed.streak:
            breaker.end_streak(closed)
        closed.successes += 1
        return result

    return protected
