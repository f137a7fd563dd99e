"""What users' own tests need."""

# A wrong line that is no error is one: both checkers refuse a `type: ignore` without a cause.
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from collections import Counter
from collections.abc import Callable
from typing import Any, assert_type

from aio_pika import Message
from aio_pika.abc import AbstractQueue

from resilience import CircuitBreaker, CircuitBreakerRegistry
from resilience.testing import FakeClock, FakeGenesys, StubBroker, run_in_virtual_time
from resilience.testing.rabbitmq import QueueCounts, StubMessage
from resilience.waiters import AdvancingClock


def clocks() -> None:
    clock = FakeClock()
    FakeClock(start=7)
    FakeClock(7.5)
    assert_type(clock(), float)
    assert_type(clock.advance(60), None)
    clock.advance(-0.5)
    as_a_clock: Callable[[], float] = clock
    CircuitBreaker("eu-west-1", clock=as_a_clock)
    CircuitBreakerRegistry(clock=clock)
    as_an_advancing_clock: AdvancingClock = clock
    as_an_advancing_clock.on_advance(clock.__repr__)

    clock.advance()  # type: ignore[call-arg]
    clock.advance("60")  # type: ignore[arg-type]
    CircuitBreaker("eu-west-1", clock=60.0)  # type: ignore[arg-type]


def states_that_change(clock: FakeClock, breaker: CircuitBreaker) -> None:
    assert breaker.state == "OPEN"
    clock.advance(60)
    assert breaker.state == "HALF_OPEN"


async def servers() -> None:
    async with FakeGenesys(latency=0.1, clock=FakeClock()) as genesys:
        assert_type(genesys, FakeGenesys)
        assert_type(genesys.url, str)
        assert_type(genesys.token_url, str)
        assert_type(genesys.message_url("integration"), str)
        assert_type(genesys.port, int)
        assert_type(genesys.requests, int)
        assert_type(genesys.requests_by_path, Counter[str])
        assert_type(genesys.requests_by_second, Counter[int])
        assert_type(genesys.messages, list[dict[str, Any]])
        assert_type(genesys.issue_token(), str)
        assert_type(genesys.fail(503), None)
        assert_type(genesys.up(), None)

        genesys.fail("503")  # type: ignore[arg-type]
        genesys.crash()  # type: ignore[attr-defined]

    FakeGenesys("client-id")  # type: ignore[call-arg]


async def brokers() -> None:
    async with StubBroker() as broker:
        assert_type(broker, StubBroker)
        broker.declare("q", arguments={"x-queue-type": "quorum", "x-delivery-limit": 20})
        broker.publish("q", Message(b"1"))
        assert_type(await broker.get_queue("q"), AbstractQueue)
        assert_type(broker.messages("q"), list[StubMessage])
        assert_type(broker.counts("q"), QueueCounts)
        assert_type(broker.counts("q").acked, int)

        broker.publish("q", b"1")  # type: ignore[arg-type]
        broker.declare("q", {})  # type: ignore[call-arg]


async def seven() -> int:
    return 7


def virtual_time() -> None:
    assert_type(run_in_virtual_time(seven(), FakeClock()), int)
    assert_type(run_in_virtual_time(seven(), FakeClock(), limit=3600), int)

    run_in_virtual_time(seven, FakeClock())  # type: ignore[arg-type]
    run_in_virtual_time(seven(), 0.0)  # type: ignore[arg-type]
