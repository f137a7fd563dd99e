"""Eight real processes, a real store, and a region that counts the requests of each tenant."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from resilience.testing import FakeGenesys
from resilience.testing.api import MESSAGE_PATH
from tests.support import tenant_worker
from tests.support.needs import needs_store
from tests.support.stores import SERVERS, serving

PROCESSES = 8
EVERY = 0.01
WAIT = 3
_PATIENCE = 90.0
PROGRAM = Path(tenant_worker.__file__)
PATH, OTHER_PATH = MESSAGE_PATH.format("acme"), MESSAGE_PATH.format("other")


class Worker:
    """This side of one process."""

    def __init__(self, reader, writer, pid):
        self._reader, self._writer, self._pid = reader, writer, pid

    async def tell(self, *what):
        self._writer.write(json.dumps(what).encode() + b"\n")
        line = await self._reader.readline()
        assert line, "the process has ended"
        return json.loads(line)

    def kill(self):
        os.kill(self._pid, signal.SIGKILL)

    async def close(self):
        """Let it end."""
        self._writer.close()
        with suppress(ConnectionError):
            while await self._reader.readline():
                pass


async def until(condition, what):
    end = time.monotonic() + _PATIENCE
    while not (result := await condition()):
        assert time.monotonic() < end, f"never: {what}"
        await asyncio.sleep(0.01)
    return result


@pytest.fixture(params=SERVERS)
def store(request, tmp_path):
    needs_store(request.param)
    with serving(request.param, tmp_path) as store:
        yield store


@pytest.fixture
def valkey(tmp_path):
    with serving("valkey", tmp_path) as store:
        yield store


@pytest.fixture
async def genesys():
    async with FakeGenesys(require_token=False) as genesys:
        yield genesys


@pytest.fixture(scope="module")
def nursery():
    command = [sys.executable, str(PROGRAM)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as nursery:
        yield nursery


@pytest.fixture
async def start(genesys, nursery, tmp_path):
    """Start processes that share through a store, or, without a URL, each for itself."""
    started, arrived = [], asyncio.Queue()
    door = str(tmp_path / "door")
    server = await asyncio.start_unix_server(lambda *one: arrived.put_nowait(one), door)

    async def start(url, count=PROCESSES, *, waits=True, **sharing):
        options = {
            "url": url, "genesys": genesys.url, "token": genesys.issue_token(), "socket": door,
            "sharing": {"probe_lease": 30.0, "poll_interval": 300.0} | sharing,
        }  # fmt: skip
        nursery.stdin.write((json.dumps(options) + "\n") * count)
        nursery.stdin.flush()
        new = []
        for _ in range(count):
            reader, writer = await arrived.get()
            new.append(Worker(reader, writer, json.loads(await reader.readline())))
        started.extend(new)
        if waits:
            await until(lambda: all_of(new, "shared"), "all share")
        return new

    yield start
    for worker in started:
        await worker.close()
    server.close()


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


async def all_throttled(workers):
    async def are_all():
        return all("acme" in seen["throttled"] for seen in await look(workers))

    await until(are_all, "all know")


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


async def answers(workers, status):
    """Return when requests of the tenant were sent and answered with this status, and by whom."""
    found = []
    for who, worker in enumerate(workers):
        for tenant, sent_at, answered_at, got in await worker.tell("journal"):
            if tenant == "acme" and got == status:
                found.append((sent_at, answered_at, who))
    return sorted(found)


async def test_one_429_stops_the_tenant_in_the_whole_fleet_and_one_call_probes(
    store, genesys, start
):
    workers = await start(store.url)
    await traffic(workers)
    await passed(genesys, 2 * PROCESSES)
    genesys.rate_limit(WAIT, paths=PATH)
    await all_wait(workers)

    async def has_probed_twice():
        refused = await answers(workers, 429)
        return len({int((sent_at - refused[0][1]) / WAIT) for sent_at, _, _ in refused}) > 2

    await until(has_probed_twice, "there were probes")
    refused = await answers(workers, 429)
    first = min(answered_at for _, answered_at, _ in refused)
    at_first = [who for sent_at, _, who in refused if sent_at < first + WAIT]
    assert len(at_first) == len(set(at_first)), "a process sends one more request at most"
    probes = refused[len(at_first) :]
    for (_, answered_at, _), (sent_at, _, _) in pairwise([refused[len(at_first) - 1], *probes]):
        assert sent_at >= answered_at + WAIT - 0.1, "one at a time, each after its wait"
    assert len(probes) >= 2


async def test_no_call_sends_anything_to_the_store(store, genesys, start):
    workers = await start(store.url)
    await traffic(workers)
    await traffic(workers, "other")
    genesys.rate_limit(600, paths=PATH)
    await all_wait(workers)
    await settled(store)
    scripts, already, refused = scripts_run(store), await rejected(workers), requests(genesys)
    assert refused <= requests_before_429(await look(workers)) + PROCESSES
    others = requests(genesys, OTHER_PATH)
    await passed(genesys, others + 20 * PROCESSES, OTHER_PATH)
    assert await rejected(workers) > already + PROCESSES
    assert requests(genesys) == refused
    assert scripts_run(store) == scripts


def requests_before_429(seen):
    return sum(one["counts"].get("sent acme", 0) for one in seen)


async def test_a_probe_that_hangs_is_the_only_one(valkey, genesys, start):
    workers = await start(valkey.url)
    genesys.rate_limit(1, paths=PATH)
    await workers[0].tell("call", "acme")
    genesys.hang(paths=PATH)
    await all_throttled(workers)
    await traffic(workers)
    await traffic(workers, "other")
    await passed(genesys, 2)
    others = requests(genesys, OTHER_PATH)
    await passed(genesys, others + 50 * PROCESSES, OTHER_PATH)
    assert await rejected(workers) > 0
    assert requests(genesys) == 2


async def settled(store):
    """Wait until the processes have told each other everything."""
    counts = []

    async def is_quiet():
        counts.append(scripts_run(store))
        await asyncio.sleep(0.05)
        return len(counts) > 3 and counts[-1] == counts[-4]

    await until(is_quiet, "the processes have nothing to say")


async def test_the_success_of_one_probe_lets_all_go_on(valkey, genesys, start):
    workers = await start(valkey.url)
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
    workers = await start(valkey.url, 3, probe_lease=2.0)
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
    workers.pop(probing).kill()
    genesys.up(paths=PATH)
    await none_waits(workers)


async def test_a_process_that_starts_knows_who_is_throttled(valkey, genesys, start):
    (first,) = await start(valkey.url, 1)
    genesys.rate_limit(60, paths=PATH)
    await first.tell("call", "acme")
    await settled(valkey)
    (second,) = await start(valkey.url, 1)
    await all_wait([second])
    await second.tell("call", "acme")
    assert requests(genesys) == 1


@pytest.mark.parametrize("how", ["never there", "gone", "not shared"])
async def test_without_the_store_each_process_learns_alone(valkey, genesys, start, how):
    if how == "never there":
        valkey.kill()
    url = None if how == "not shared" else valkey.url
    workers = await start(url, 4, waits=how == "gone")
    if how == "gone":
        valkey.kill()

        async def are_alone():
            return not any(seen["shared"] for seen in await look(workers))

        await until(are_alone, "all are alone")
    genesys.rate_limit(WAIT, paths=PATH)
    await traffic(workers)
    await until(lambda: all_refused(workers), "each is refused")
    refused = await answers(workers, 429)
    assert {who for _, _, who in refused} == set(range(4))
    for place in range(4):
        own = [answered_at for _, answered_at, who in refused if who == place]
        assert all(later - earlier >= WAIT - 0.1 for earlier, later in pairwise(own))
    genesys.up(paths=PATH)
    await none_waits(workers)


async def all_refused(workers):
    return all(seen["counts"].get("429 acme") for seen in await look(workers))
