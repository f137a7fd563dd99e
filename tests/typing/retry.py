"""Retries keep what a function is, and what tenacity offers on it."""

# A wrong line that is no error is one: both checkers refuse a `type: ignore` without a cause.
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from collections.abc import Callable
from typing import Any, assert_type

from tenacity import AsyncRetrying, RetryCallState, Retrying, stop_after_attempt, wait_fixed

from resilience import region_breaker
from resilience.retry import (
    RetryBudget,
    gate,
    is_transient,
    stop_unless_closed,
    transient_retry,
    wait_retry_after,
    wait_until_ready,
)


@transient_retry(count_per="attempt", budget=RetryBudget(ratio=0.1), reraise=False)
def fetch(region: str, page: int = 0) -> list[str]:
    return [region] * page


@region_breaker(region_from="region")
@transient_retry(attempts=3, wait=wait_retry_after(wait_fixed(1), maximum=30))
async def send(region: str, *, text: str) -> bytes:
    return (region + text).encode()


@gate
async def marked(region: str) -> int:
    return len(region)


class Client:
    @region_breaker(region_from="region")
    @transient_retry()
    async def send(self, region: str) -> float:
        return float(region)


async def use() -> None:
    assert_type(fetch("eu-west-1", page=2), list[str])
    assert_type(fetch.statistics, dict[str, Any])
    fetch.retry_with(wait=wait_until_ready(wait_fixed(1)))("eu-west-1")
    assert_type(await send("eu-west-1", text="hello"), bytes)
    assert_type(await marked("eu-west-1"), int)
    assert_type(await Client().send("eu-west-1"), float)
    assert_type(gate(AsyncRetrying(stop=stop_after_attempt(5) | stop_unless_closed)), AsyncRetrying)
    assert_type(gate(Retrying(retry=is_transient)), Retrying)
    assert_type(is_transient(TimeoutError()), bool)
    conditions: list[Callable[[RetryCallState], bool]] = [is_transient, stop_unless_closed]
    assert conditions

    fetch(7)  # type: ignore[arg-type]
    await send("eu-west-1")  # type: ignore[call-arg]
    transient_retry(count_per="day")  # type: ignore[arg-type]
