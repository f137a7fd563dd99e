"""What operators, dashboards and tests of users call."""

# A wrong line that is no error is one: both checkers refuse a `type: ignore` without a cause.
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

import logging
from collections.abc import Callable
from typing import ClassVar, ParamSpec, TypeVar, assert_type, cast

from aiohttp import web

from resilience import (
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    default_registry,
    region_breaker,
)
from resilience.integrations.logging import use_logging, use_structlog
from resilience.integrations.opentelemetry import observe, trace_circuits
from resilience.integrations.prometheus import CircuitCollector
from resilience.integrations.redis import Fleet, FleetCircuit
from resilience.integrations.status_page import bearer_token, status_page
from resilience.testing import FakeClock, FakeGenesys, open_circuit
from resilience.testing.conformance import (
    CHECKS,
    BreakerAdapter,
    Finding,
    ManualClock,
    check_breaker,
)

tokens = CircuitBreakerRegistry(name="tokens")


def several_registries() -> None:
    assert_type(tokens.name, str)
    assert_type(tokens.get("a").snapshot().registry, str)
    CircuitCollector(tokens)
    CircuitCollector([default_registry, tokens], show_tenants=True)
    observe((default_registry, tokens))
    assert_type(trace_circuits([default_registry, tokens]), Callable[[], None])
    assert_type(status_page([default_registry, tokens]), web.Application)

    CircuitCollector("tokens")  # type: ignore[arg-type]
    observe(tokens.get("a"))  # type: ignore[arg-type]


def actions() -> None:
    status_page(tokens, actions=bearer_token("a-secret-of-some-length"))
    status_page(tokens, actions=lambda request: request.headers.get("X-User", False))

    async def check(request: web.Request) -> bool:
        return request.secure

    status_page(tokens, actions=check)

    status_page(tokens, actions="a-secret-of-some-length")  # type: ignore[arg-type]
    status_page(tokens, actions=lambda: True)  # type: ignore[arg-type,misc]


def logs() -> None:
    assert_type(use_logging(), Callable[[], None])
    use_logging("circuits")
    use_logging(logging.getLogger("circuits"))
    assert_type(use_structlog(), Callable[[], None])

    use_logging(7)  # type: ignore[arg-type]


def threads(breaker: CircuitBreaker) -> None:
    assert_type(breaker.block_until_ready(), bool)
    assert_type(breaker.block_until_ready(timeout=1.5), bool)


def fleets() -> None:
    with Fleet("redis://localhost", prefix="circuits", name="ann") as fleet:
        assert_type(fleet, Fleet)
        assert_type(fleet.circuits(), list[FleetCircuit])
        assert_type(fleet.force_open("a", "why"), bool)
        assert_type(fleet.reset("a"), bool)

        fleet.force_open("a")  # type: ignore[call-arg]


def tests_of_users() -> None:
    with tokens.isolated(clock=FakeClock()) as registry:
        assert_type(registry, CircuitBreakerRegistry)
        assert_type(open_circuit("a", registry), CircuitBreaker)
    with FakeGenesys(port=0) as genesys:
        assert_type(genesys, FakeGenesys)
        genesys.add_route("GET", "/a", {"b": 1}, require_token=False)

    tokens.isolated(clocks=FakeClock())  # type: ignore[call-arg]


P = ParamSpec("P")
T = TypeVar("T")


class Adapter(BreakerAdapter):
    rejection = CircuitBreakerOpenError
    patches: ClassVar = {"library.monotonic": "monotonic"}

    def __init__(self, *, clock: ManualClock) -> None:
        self.registry = CircuitBreakerRegistry(clock=clock.monotonic)

    def protect(self, fn: Callable[P, T]) -> Callable[P, T]:
        return region_breaker(region_from="region", registry=self.registry)(fn)

    def state(self) -> str:
        return self.registry.get("a").state.value


Function = TypeVar("Function", bound=Callable[..., object])


class OfALibraryWithoutTypes(Adapter):
    def protect(self, fn: Function) -> Function:
        return cast("Function", super().protect(fn))


def conformance(adapter: type[BreakerAdapter], breaker: Adapter) -> None:
    assert_type(check_breaker(adapter), list[Finding])
    assert_type(CHECKS[0].run(Adapter), Finding)
    assert_type(check_breaker(OfALibraryWithoutTypes), list[Finding])
    assert_type(breaker.protect(len)("abc"), int)

    check_breaker(7)  # type: ignore[arg-type]
