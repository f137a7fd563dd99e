"""Calls of retried and gated functions, and settings that are refused."""

# A wrong line that is no error is one: both checkers refuse a `type: ignore` without a cause.
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

import asyncio
from typing import Any, assert_type

import tenacity
from tenacity import AsyncRetrying, Retrying, stop_after_attempt, wait_fixed, wait_none

from resilience import CircuitBreaker, region_breaker
from resilience.retry import (
    RetryBudget,
    gate,
    is_transient,
    stop_unless_closed,
    transient_retry,
    wait_retry_after,
    wait_until_ready,
)

breaker = CircuitBreaker("eu-west-1")


@transient_retry()
async def send(text: str, *, urgent: bool = False) -> int:
    return len(text) + urgent


@transient_retry(attempts=3, wait=wait_none(), count_per="attempt", budget=RetryBudget())
def send_plain(text: str, *, urgent: bool = False) -> int:
    return len(text) + urgent


@region_breaker(region_from="region")
@transient_retry(stop=stop_after_attempt(5) | stop_unless_closed, reraise=False)
async def stacked(region: str, text: str) -> bytes:
    return (region + text).encode()


@breaker
@gate
async def with_a_loop(text: str) -> int:
    async for attempt in gate(AsyncRetrying(stop=stop_after_attempt(3))):
        with attempt:
            return len(text)
    return 0


@gate
def with_a_plain_loop(text: str) -> int:
    for attempt in gate(Retrying(wait=wait_retry_after(wait_none()))):
        with attempt:
            return len(text)
    return 0


@breaker
@tenacity.retry(stop=stop_after_attempt(3))
def plain(text: str) -> int:
    return len(text)


class Client:
    @breaker
    @transient_retry()
    async def send(self, text: str) -> int:
        return len(text)

    @classmethod
    @region_breaker(region_from="region")
    @transient_retry()
    async def make(cls, region: str) -> "Client":
        return cls()

    @staticmethod
    @breaker
    @tenacity.retry(stop=stop_after_attempt(3))
    def ping(host: str) -> float:
        return float(host)


class SpecialClient(Client): ...


async def types_are_kept(client: Client) -> None:
    assert_type(await send("hello", urgent=True), int)
    task = asyncio.create_task(send("hello"))  # it takes nothing but coroutines
    assert_type(await task, int)
    assert_type(send_plain("hello"), int)
    assert_type(await stacked("eu-west-1", "hello"), bytes)
    assert_type(await with_a_loop("hello"), int)
    assert_type(with_a_plain_loop("hello"), int)
    assert_type(await client.send("hello"), int)


async def wrong_calls_are_errors(client: Client) -> None:
    await send()  # type: ignore[call-arg]
    await send(1)  # type: ignore[arg-type]
    await send("hello", True)  # type: ignore[call-arg]
    send_plain(1)  # type: ignore[arg-type]
    with_a_plain_loop(1)  # type: ignore[arg-type]
    await with_a_loop(1)  # type: ignore[arg-type]
    await client.send(1)  # type: ignore[arg-type]


def a_protected_function_keeps_its_loop(client: Client) -> None:
    stacked.retry.wait = wait_none()
    stacked.retry.enabled = False
    assert_type(stacked.statistics, dict[str, Any])
    client.send.retry.wait = wait_none()
    Client.send.retry.stop = stop_after_attempt(1)
    plain.retry.wait = wait_none()
    assert_type(plain.__wrapped__("hello"), int)
    assert_type(plain.retry_with(wait=wait_none())("hello"), int)
    with_a_plain_loop.retry.wait = wait_none()  # type: ignore[attr-defined]


async def class_methods_and_static_methods_are_bound(client: Client) -> None:
    assert_type(await Client.make("eu-west-1"), Client)
    assert_type(await client.make(region="eu-west-1"), Client)
    assert_type(await SpecialClient.make("eu-west-1"), Client)
    assert_type(Client.ping("1"), float)
    assert_type(client.ping(host="1"), float)
    assert_type(await Client.send(client, "hello"), int)
    assert_type(await SpecialClient().send("hello"), int)
    Client.make.retry.wait = wait_none()
    client.ping.retry.wait = wait_none()

    await Client.make()  # type: ignore[call-arg]
    await client.make(1)  # type: ignore[arg-type]
    Client.ping(1)  # type: ignore[arg-type]
    await Client.send("hello")  # type: ignore[call-arg,arg-type]


def loops_stay_loops() -> None:
    assert_type(gate(AsyncRetrying()), AsyncRetrying)
    assert_type(gate(Retrying()), Retrying)


def settings(error: Exception, state: tenacity.RetryCallState) -> None:
    assert_type(is_transient(error), bool)
    assert_type(is_transient(state), bool)
    tenacity.retry(retry=is_transient, stop=stop_unless_closed, wait=wait_until_ready(wait_none()))
    wait_retry_after(wait_fixed(1), maximum=30)
    RetryBudget(ratio=0.1, minimum_per_second=2, window=5)

    transient_retry(attempts="5")  # type: ignore[arg-type]
    transient_retry(count_per="calls")  # type: ignore[arg-type]
    transient_retry(budget=0.2)  # type: ignore[arg-type]
    transient_retry(5)  # type: ignore[call-arg]
    RetryBudget(ratio="0.2")  # type: ignore[arg-type]
    wait_retry_after("soon")  # type: ignore[arg-type]
    gate("send")  # type: ignore[call-overload]
