"""Loops of calls that have a tenant, which is not throttled."""

from functools import partial
from types import SimpleNamespace
from typing import cast

from benchmarks.calls import CREDENTIALS, PATH, REGION, Function, send, send_now, send_with
from benchmarks.loops import Run, awaiting, calling
from resilience import CircuitBreakerRegistry, region_breaker
from resilience.retry import transient_retry


def protect(fn: Function, region: str, tenant: str) -> Function:
    """Protect a function whose calls have a tenant; another one is throttled."""
    registry = CircuitBreakerRegistry()
    registry.get(REGION).tenants.throttle("another", 3600.0)
    decorate = region_breaker(region_from=region, tenant_from=tenant, registry=registry)
    return cast("Function", decorate(fn))


def with_tenant() -> Run:
    """Make a loop of successes; the tenant is a parameter."""
    return awaiting(protect(send, "region", "region"))


def with_tenant_def() -> Run:
    """Make the same loop for a plain function."""
    return calling(protect(send_now, "region", "region"))


def with_tenant_by_path() -> Run:
    """Make a loop of successes; the region and the tenant are in the same object."""
    holder = SimpleNamespace(tenant="acme", **vars(CREDENTIALS))
    fn = protect(send_with, PATH, "credentials.tenant")
    return partial(awaiting, argument=holder)(fn)


def with_tenant_over_transient_retry() -> Run:
    """Make a loop of successes through the retries of this package."""
    return awaiting(protect(transient_retry()(send), "region", "region"))
