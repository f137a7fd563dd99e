"""Eight real processes, a real store, and a region that counts the requests of each tenant."""

import asyncio
import json
import sys
import time
from pathlib import Path

import pytest

from resilience.testing import FakeGenesys
from resilience.testing.api import MESSAGE_PATH
from tests.support import tenant_worker
from tests.support.needs import needs_store
from tests.support.stores import SERVERS, Store, binaries

PROCESSES = 8
EVERY = 0.01
WAIT = 3
_PATIENCE = 90.0
PROGRAM = Path(tenant_worker.__file__)
PATH = MESSAGE_PATH.format("acme")
# No poll between the first one and the end of a test: announcements are enough.
NO_POLLS = {"poll_interval": 300.0}


class Worker:
    """This side of one process."""

    def __init__(self, process):
        self.process = process

    async def tell(self, *what):
        self.process.stdin.write(json.dumps(what).encode() + b"\n")
        line = await self.process.stdout.readline()
        assert line, "the process has ended"
        return json.loads(line)

    async def close(self):
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


async def until(condition, what):
    end = time.monotonic() + _PATIENCE
    while not (result := await condition()):
        assert time.monotonic() < end, f"never: {what}"
        await asyncio.sleep(0.01)
    return result


@pytest.fixture(params=SERVERS)
def store(request, tmp_path):
    needs_store(request.param)
    store = Store(binaries()[request.param], tmp_path)
    store.start()
    yield store
    store.kill()


@pytest.fixture
def valkey(tmp_path):
    store = Store(binaries()["valkey"], tmp_path)
    store.start()
    yield store
    store.kill()


@pytest.fixture
async def genesys():
    async with FakeGenesys(require_token=False) as genesys:
        yield genesys


@pytest.fixture
async def start(genesys):
    """Start processes that share through a store, or, without a URL, each for itself."""
    started = []

    async def start(url, count=PROCESSES, *, waits=True, **sharing):
        options = {
            "url": url, "genesys": genesys.url, "token": genesys.issue_token(), "sharing": sharing,
        }  # fmt: skip
        new = [
            Worker(
                await asyncio.create_subprocess_exec(
                    sys.executable, str(PROGRAM), json.dumps(options),
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                )  # fmt: skip
            )
            for _ in range(count)
        ]
        started.extend(new)
        if waits:
            await until(lambda: all_of(new, "shared"), "all share")
        return new

    yield start
    for worker in started:
        await worker.close()


async def look(workers):
    return [await worker.tell("seen") for worker in workers]


async def all_of(workers, what):
    return all(seen[what] for seen in await look(workers))


async def traffic(workers, tenant="acme", every=EVERY):
    for worker in workers:
        await worker.tell("traffic", tenant, every)


def requests(genesys, path=PATH):
    return genesys.requests_by_path[path]


async def passed(genesys, count, path=PATH):
    async def has_passed():
        return requests(genesys, path) >= count

    await until(has_passed, f"{count} requests")


async def all_wait(workers):
    async def do_all_wait():
        return all("acme" in seen["waits"] for seen in await look(workers))

    await until(do_all_wait, "all wait")


async def none_waits(workers):
    async def do_all_go_on():
        return not any(seen["throttled"] for seen in await look(workers))

    await until(do_all_go_on, "all go on")


def scripts_run(store):
    with store.client() as client:
        stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


async def rejected(workers):
    return sum(seen["counts"].get("rejected acme", 0) for seen in await look(workers))


async def test_one_429_stops_the_tenant_in_the_whole_fleet_and_one_call_probes(
    store, genesys, start
):
    workers = await start(store.url, **NO_POLLS)
    await traffic(workers)
    await traffic(workers, "other")
    await passed(genesys, 2 * PROCESSES)

    genesys.rate_limit(WAIT, paths=PATH)
    before = requests(genesys)
    await all_wait(workers)
    refused = requests(genesys) - before
    assert 1 <= refused <= PROCESSES
    assert max(seen["counts"].get("429 acme", 0) for seen in await look(workers)) <= 1

    # Calls run no script, neither those that are rejected nor those of others.
    await settled(store)
    scripts, already = scripts_run(store), await rejected(workers)
    others = requests(genesys, MESSAGE_PATH.format("other"))
    await passed(genesys, others + 10 * PROCESSES, MESSAGE_PATH.format("other"))
    assert await rejected(workers) > already + PROCESSES
    assert requests(genesys) - before == refused
    assert scripts_run(store) == scripts

    # When the wait is over, one message is the probe: it is refused, and all wait again.
    await passed(genesys, before + refused + 1)
    await all_wait(workers)
    assert requests(genesys) - before == refused + 1

    # One that hangs is alone for as long as it hangs.
    genesys.hang(paths=PATH)
    await passed(genesys, before + refused + 2)
    already = await rejected(workers)
    others = requests(genesys, MESSAGE_PATH.format("other"))
    await passed(genesys, others + 50 * PROCESSES, MESSAGE_PATH.format("other"))
    assert await rejected(workers) > already
    assert requests(genesys) - before == refused + 2


async def settled(store):
    """Wait until the processes have told each other everything."""
    counts = []

    async def is_quiet():
        counts.append(scripts_run(store))
        await asyncio.sleep(0.05)
        return len(counts) > 3 and counts[-1] == counts[-4]

    await until(is_quiet, "the processes have nothing to say")


async def test_the_success_of_one_probe_lets_all_go_on(valkey, genesys, start):
    workers = await start(valkey.url, **NO_POLLS)
    await traffic(workers)
    genesys.rate_limit(1, paths=PATH)
    await all_wait(workers)
    genesys.slow(0.5, paths=PATH)
    before = requests(genesys)
    await passed(genesys, before + 1)
    assert requests(genesys) == before + 1
    genesys.up(paths=PATH)
    await none_waits(workers)
    await passed(genesys, before + 4 * PROCESSES)
    seen = await look(workers)
    assert all(one["counts"].get("429 acme", 0) <= 1 for one in seen)


async def test_a_process_that_is_killed_while_it_probes_is_followed_by_another(
    valkey, genesys, start
):
    workers = await start(valkey.url, 3, probe_lease=2.0, **NO_POLLS)
    await traffic(workers)
    genesys.rate_limit(1, paths=PATH)
    await all_wait(workers)
    genesys.hang(paths=PATH)
    before = requests(genesys)
    await passed(genesys, before + 1)
    counts = [seen["counts"] for seen in await look(workers)]
    probing = next(
        place
        for place, count in enumerate(counts)
        if count["requests acme"] > count.get("429 acme", 0) + count.get("sent acme", 0)
    )
    await workers.pop(probing).close()
    genesys.up(paths=PATH)
    await none_waits(workers)


async def test_a_process_that_starts_knows_who_is_throttled(valkey, genesys, start):
    (first,) = await start(valkey.url, 1, **NO_POLLS)
    genesys.rate_limit(60, paths=PATH)
    await first.tell("call", "acme")
    await settled(valkey)
    (second,) = await start(valkey.url, 1, **NO_POLLS)
    await all_wait([second])
    await second.tell("call", "acme")
    assert requests(genesys) == 1


@pytest.mark.parametrize("how", ["never there", "gone", "not shared"])
async def test_without_the_store_each_process_learns_alone(valkey, genesys, start, how):
    if how == "never there":
        valkey.kill()
    url = None if how == "not shared" else valkey.url
    workers = await start(url, 4, waits=how == "gone", **NO_POLLS)
    if how == "gone":
        valkey.kill()

        async def are_alone():
            return not any(seen["shared"] for seen in await look(workers))

        await until(are_alone, "all are alone")
    genesys.rate_limit(WAIT, paths=PATH)
    await traffic(workers)
    await all_wait(workers)
    assert requests(genesys) == len(workers)
    genesys.up(paths=PATH)
    await none_waits(workers)

