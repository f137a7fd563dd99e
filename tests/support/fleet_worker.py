"""One process of a fleet: does what it is told over a socket, and writes down what happens.

Run as a program it is a nursery: for each line of JSON on its standard input it forks one such
process, since importing everything anew for each takes longer than most tests.
"""

import asyncio
import json
import mmap
import os
import resource
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from loguru import logger

from resilience import BreakerPolicy, CircuitBreakerOpenError, CircuitBreakerRegistry
from resilience.integrations.redis import RedisSharing

MOST_WORKERS = 32
# What a region does: one byte for each process, so that two may see it differently.
UP, DOWN, HANGS = b"UDH"
_LATENCY = 0.005
_TICK = 0.005
# A process that gets no core for so long cannot have its answers within 250 ms.
_TOO_LATE = 0.05


class Journal:
    """One file for the whole fleet: a line is one write, so the file is the order of things."""

    def __init__(self, path, who):
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._who = who

    def write(self, region, what, **more):
        entry = {"t": time.monotonic(), "who": self._who, "region": region, "what": what} | more
        os.write(self._file, (json.dumps(entry) + "\n").encode())


class Worker:
    """A registry, the calls that are made through it, and how they went."""

    def __init__(self, options):
        self._who, self._regions = options["who"], options["regions"]
        folder = Path(options["folder"])
        self._journal = Journal(folder / "journal", self._who)
        with (folder / "modes").open("r+b") as file:
            self._modes = mmap.mmap(file.fileno(), 0)
        sharing = None
        if options["url"]:
            sharing = RedisSharing(options["url"], name=f"w{self._who}", **options["sharing"])
        given = options["policies"].items()
        self._policies = {name: BreakerPolicy(**policy) for name, policy in given}
        policy = BreakerPolicy(**options["policy"])
        self._registry = CircuitBreakerRegistry(policy, policies=self._policies, sharing=sharing)
        self._registry.listen(self._note)
        logger.remove()
        logger.add(self._log, level="INFO", format="{message}")
        self._breakers = {region: self._registry.get(region) for region in self._regions}
        self._traffic, self._running = set(), {}
        self._counts, self._longest, self._lags = Counter(), 0.0, []

    def _note(self, event):
        self._journal.write(event.region, event.new, by=event.by, reason=event.reason)

    def _log(self, message):
        record = message.record
        more = {"level": record["level"].name, "text": str(message).strip()}
        self._journal.write(record["extra"].get("region", ""), "log", **more)

    # A call

    async def _call(self, region):
        try:
            permit = self._timed(self._breakers[region].acquire)
        except CircuitBreakerOpenError:
            self._counts["rejected"] += 1
            self._counts[f"rejected by {region}"] += 1
            return
        self._journal.write(region, "request")
        ended = "cancelled"
        try:
            ended = "up" if await self._answer(region) else "down"
        finally:
            self._counts[ended] += 1
            self._journal.write(region, "answer", how=ended)
            end = {"up": permit.succeed, "down": permit.fail, "cancelled": permit.ignore}[ended]
            self._timed(end)

    async def _answer(self, region):
        place = self._regions.index(region) * MOST_WORKERS + self._who
        await asyncio.sleep(_LATENCY)
        while self._modes[place] == HANGS:  # noqa: ASYNC110 - another process sets it
            await asyncio.sleep(_LATENCY)
        return self._modes[place] == UP

    def _timed(self, function):
        """Call into the library; how long it took counts unless the system took the core away."""
        switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
        began = time.perf_counter()
        try:
            return function()
        except CircuitBreakerOpenError:
            raise
        except Exception as error:
            self._counts[f"raised {type(error).__name__}"] += 1
            raise
        finally:
            took = time.perf_counter() - began
            if resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw == switches:
                self._longest = max(self._longest, took)

    # What it may be told

    async def traffic(self, region, tasks, every, phase=0.0):
        """Let so many tasks call, each so many seconds after its last call."""
        for number in range(tasks):
            self._start(self._keep_calling(region, every, phase + every * number / tasks))

    async def waiters(self, region, tasks):
        """Let so many tasks call only when they are told that they may."""
        for _ in range(tasks):
            self._start(self._keep_waiting(region))

    async def stop(self):
        """End all traffic."""
        for task in self._traffic:
            task.cancel()
        await asyncio.gather(*self._traffic, return_exceptions=True)
        self._traffic.clear()

    async def cancel(self, region):
        """Cancel the calls that are under way; the traffic goes on."""
        for task in self._running.get(region, ()):
            task.cancel()

    async def call(self, region, times=1):
        """Call so many times, one after the other."""
        for _ in range(times):
            await self._call(region)

    async def rush(self, region, times):
        """Call as fast as the library can: nothing is sent and nothing is written down."""
        breaker = self._breakers[region]
        for _ in range(times):
            try:
                with breaker.acquire():
                    pass
            except CircuitBreakerOpenError:
                pass

    async def by_hand(self, region, reason=None):
        """Force a circuit open, or reset it."""
        breaker = self._breakers[region]
        breaker.reset() if reason is None else breaker.force_open(reason)

    async def configure(self, regions, **policy):
        """Change the policy of some regions, for running circuits as well."""
        self._policies = self._policies | dict.fromkeys(regions, BreakerPolicy(**policy))
        self._registry.configure(policies=self._policies)

    async def look(self):
        """Describe the circuits."""
        return {each.region: asdict(each) for each in self._registry.snapshots()}

    async def counts(self):
        """Say how the calls went since the last time this was asked."""
        said = {**self._counts, "longest": self._longest, "lags": self._lags}
        self._counts, self._longest, self._lags = Counter(), 0.0, []
        return said

    async def close(self):
        """Stop sharing."""
        await self._registry.aclose()

    def _start(self, coroutine):
        self._traffic.add(asyncio.get_running_loop().create_task(coroutine))

    async def _keep_calling(self, region, every, first):
        await asyncio.sleep(first)
        running = self._running.setdefault(region, set())
        while True:
            call = asyncio.get_running_loop().create_task(self._call(region))
            running.add(call)
            try:
                await asyncio.wait({call})
            finally:
                call.cancel()
                running.discard(call)
            await asyncio.sleep(every)

    async def _keep_waiting(self, region):
        while True:
            if await self._breakers[region].wait_until_ready():
                await self._call(region)
                await asyncio.sleep(_LATENCY)

    async def watch_the_loop(self):
        while True:
            began = time.perf_counter()
            await asyncio.sleep(_TICK)
            lag = time.perf_counter() - began - _TICK
            self._lags.append(lag)
            if lag > _TOO_LATE:
                self._journal.write("", "late", lag=lag)


async def serve(options):
    """Do what comes over the socket, until it ends."""
    reader, writer = await asyncio.open_unix_connection(options["socket"])
    worker = Worker(options)
    watch = asyncio.create_task(worker.watch_the_loop())
    writer.write(json.dumps([options["who"], os.getpid()]).encode() + b"\n")
    while line := await reader.readline():
        do, arguments = json.loads(line)
        said = await getattr(worker, do)(**arguments)
        writer.write(json.dumps(said).encode() + b"\n")
    watch.cancel()
    await worker.stop()
    await worker.close()
    writer.close()


def nurse():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    for line in sys.stdin:
        if os.fork() == 0:
            sys.stdin.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            asyncio.run(serve(json.loads(line)))
            sys.stdout.flush()
            os._exit(0)


if __name__ == "__main__":
    nurse()
