"""Decorators keep what a function is: its parameters, its result, its coroutine type."""

# A wrong line that is no error is one: both checkers refuse a `type: ignore` without a cause.
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar, assert_type

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerRegistry,
    Outcome,
    classify_status,
    failures,
    region_breaker,
)


@dataclass
class Credentials:
    region: str


T = TypeVar("T")

registry = CircuitBreakerRegistry()
breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=5))


@region_breaker(region_from="credentials.region")
async def send(credentials: Credentials, text: str, *, attempts: int = 1) -> dict[str, int]:
    return {credentials.region + text: attempts}


@region_breaker(region_from="region", registry=registry, classifier=failures(ValueError))
def fetch(region: str, /, page: int = 0) -> list[str]:
    return [region] * page


def region_of(credentials: Credentials) -> str:
    return credentials.region


@region_breaker(region_from=region_of)
def hand_on(credentials: Credentials) -> Coroutine[Any, Any, bytes]:
    raise NotImplementedError(credentials)


@breaker
async def ping(host: str) -> float:
    return float(host)


@breaker
def ping_sync(host: str) -> float:
    return float(host)


def judge(result: object) -> Outcome:
    return Outcome.FAILURE if result is None else classify_status(result)


@region_breaker(region_from="region", result_classifier=judge)
async def count(region: str) -> int | None:
    return len(region) or None


class Client:
    region = "eu-west-1"

    @region_breaker(region_from="self.region")
    async def send(self, text: str) -> int:
        return len(text)

    @breaker
    def fetch(self, page: int) -> str:
        return str(page)

    @classmethod
    @region_breaker(region_from="cls.region")
    async def health(cls, *, deep: bool) -> bool:
        return deep

    @staticmethod
    @region_breaker(region_from="region")
    async def status(region: str) -> str:
        return region


async def types_are_kept(credentials: Credentials, client: Client) -> None:
    assert_type(await send(credentials, "hello", attempts=2), dict[str, int])
    task = asyncio.create_task(send(credentials, "hello"))  # it takes nothing but coroutines
    assert_type(await task, dict[str, int])
    assert_type(fetch("eu-west-1", page=2), list[str])
    assert_type(await hand_on(credentials), bytes)
    assert_type(await ping("1"), float)
    assert_type(ping_sync(host="1"), float)
    assert_type(await count("eu-west-1"), int | None)

    assert_type(await client.send("hello"), int)
    assert_type(client.fetch(3), str)
    assert_type(await Client.health(deep=True), bool)
    assert_type(await Client.status("eu-west-1"), str)


@region_breaker(region_from="region")
async def run(region: str, job: Callable[[], Awaitable[T]]) -> T:
    return await job()


@breaker
def first(items: list[T]) -> T:
    return items[0]


async def nine() -> int:
    return 9


async def generic_functions_stay_generic() -> None:
    assert_type(await run("eu-west-1", nine), int)
    assert_type(first(["one"]), str)
    await run("eu-west-1", 9)  # type: ignore[arg-type]


async def the_function_itself_is_found(credentials: Credentials) -> None:
    function = inspect.unwrap(send)
    await function(credentials, "hello")
    assert_type(send.__name__ + fetch.__qualname__, str)
    await inspect.unwrap(Client.send)(Client(), "hello")
    # A type with this attribute would be an object that can be called, and no function: generic
    # functions would lose their type variables. Those with tenacity's loop are such an object.
    await send.__wrapped__(credentials, "hello")  # type: ignore[attr-defined]


async def wrong_calls_are_errors(credentials: Credentials, client: Client) -> None:
    await send(credentials)  # type: ignore[call-arg]
    await send("eu-west-1", "hello")  # type: ignore[arg-type]
    await send(credentials, "hello", 2)  # type: ignore[call-arg]
    await send(credentials, "hello", retries=2)  # type: ignore[call-arg]
    fetch(region="eu-west-1")  # type: ignore[call-arg]
    await ping(1)  # type: ignore[arg-type]
    await client.send(1)  # type: ignore[arg-type]
    await Client.health()  # type: ignore[call-arg]


def wrong_settings_are_errors() -> None:
    region_breaker()  # type: ignore[call-arg]
    region_breaker("region")  # type: ignore[call-arg]
    region_breaker(region_from=7)  # type: ignore[arg-type]
    region_breaker(region_from=lambda: 7)  # type: ignore[arg-type,return-value]
    region_breaker(region_from="r", registry={})  # type: ignore[arg-type]
    region_breaker(region_from="r", classifier=bool)  # type: ignore[arg-type]
    region_breaker(region_from="r")("not a function")  # type: ignore[call-overload]
    breaker("not a function")  # type: ignore[call-overload]


@region_breaker(region_from="region", tenant_from="tenant", on_throttled="wait")
async def send_for(region: str, tenant: str) -> int:
    return len(region + tenant)


def tenant_of(region: str, tenant: str) -> str:
    return region + tenant


@region_breaker(region_from="region", tenant_from=tenant_of)
def send_now_for(region: str, tenant: str) -> int:
    return len(region + tenant)


async def tenants() -> None:
    assert_type(await send_for("eu-west-1", "acme"), int)
    assert_type(send_now_for("eu-west-1", tenant="acme"), int)
    await send_for("eu-west-1")  # type: ignore[call-arg]
    region_breaker(region_from="region", on_throttled="sleep")  # type: ignore[arg-type]
    region_breaker(region_from="region", tenant_from=7)  # type: ignore[arg-type]
    breaker.observe(object(), tenant="acme")
    breaker.observe(object(), "acme")  # type: ignore[call-arg]
    assert_type(breaker.tenants.wait_of("acme"), float)
