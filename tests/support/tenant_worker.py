"""One process of a fleet whose calls have tenants: does what it is told over a socket, in JSON.

Run as a program it is a nursery: for each line of JSON on its standard input it forks one such
process, since importing everything anew for each takes longer than most tests.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter

import aiohttp
from loguru import logger

from resilience import CircuitBreakerRegistry, TenantThrottledError, region_breaker
from resilience.integrations.redis import RedisSharing
from resilience.testing.api import MESSAGE_PATH

REGION = "eu-west-1"


class TenantWorker:
    def __init__(self, options, session):
        url = options["url"]
        sharing = RedisSharing(url, **options["sharing"]) if url else None
        self.registry = CircuitBreakerRegistry(sharing=sharing)
        self._genesys, self._token, self._session = options["genesys"], options["token"], session
        self._counts, self._tasks = Counter(), set()
        # When each request was sent and answered, by the clock of the machine, and how.
        self._journal = []
        decorate = region_breaker(
            region_from="region", tenant_from="tenant", registry=self.registry
        )
        self._send = decorate(self._post)
        self.breaker = self.registry.get(REGION)

    async def _post(self, region, tenant):
        self._counts[f"requests {tenant}"] += 1
        body = {
            "channel": {
                "from": {"id": "+1", "idType": "Phone"},
                "time": "2026-11-25T12:00:00Z",
                "messageId": f"{tenant} {time.monotonic()}",
            },
            "text": "hello",
        }
        url = self._genesys + MESSAGE_PATH.format(tenant)
        headers = {"Authorization": f"Bearer {self._token}"}
        sent_at = time.monotonic()
        async with self._session.post(url, json=body, headers=headers) as response:
            self._journal.append([tenant, sent_at, time.monotonic(), response.status])
            response.raise_for_status()

    async def _call(self, tenant):
        try:
            await self._send(REGION, tenant)
        except TenantThrottledError:
            self._counts[f"rejected {tenant}"] += 1
        except aiohttp.ClientResponseError as error:
            self._counts[f"{error.status} {tenant}"] += 1
        else:
            self._counts[f"sent {tenant}"] += 1

    async def _keep_calling(self, tenant, every):
        while True:
            await self._call(tenant)
            await asyncio.sleep(every)

    # What it may be told

    async def call(self, tenant):
        await self._call(tenant)

    async def traffic(self, tenant, every):
        """Call for a tenant again and again, one call at a time."""
        self._tasks.add(asyncio.create_task(self._keep_calling(tenant, every)))

    async def seen(self):
        return {
            "counts": self._counts,
            "waits": dict(self.breaker.tenants.throttled().waits),
            "throttled": sorted(self.breaker.throttled_tenants),
            "shared": self.breaker.snapshot().shared,
        }

    async def journal(self):
        return self._journal

    async def close(self):
        for task in self._tasks:
            task.cancel()
        await self.registry.aclose()


async def serve(options):
    """Do what comes over the socket, until it ends."""
    reader, writer = await asyncio.open_unix_connection(options["socket"])
    async with aiohttp.ClientSession() as session:
        worker = TenantWorker(options, session)
        writer.write(json.dumps(os.getpid()).encode() + b"\n")
        while line := await reader.readline():
            name, *arguments = json.loads(line)
            answer = await getattr(worker, name)(*arguments)
            writer.write(json.dumps(answer).encode() + b"\n")
        await worker.close()


def nurse():
    logger.remove()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    for line in sys.stdin:
        if os.fork() == 0:
            sys.stdin.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            asyncio.run(serve(json.loads(line)))
            os._exit(0)


if __name__ == "__main__":
    nurse()
