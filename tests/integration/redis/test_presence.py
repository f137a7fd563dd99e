"""The first contact with the store says with which other processes the circuits are shared."""

import pytest
import redis

from resilience.integrations.redis.presence import Presence
from resilience.integrations.redis.protocol import RecordProtocol
from tests.support.needs import needs_store
from tests.support.sharing import lines, registries, shared
from tests.support.stores import SERVERS, serving, until

KEY = "{region-breaker}:processes"


@pytest.fixture(params=SERVERS)
def store(request, tmp_path):
    needs_store(request.param)
    with serving(request.param, tmp_path) as store:
        yield store


def contacts(log):
    return [line for line in lines(log, "INFO") if line.startswith("is shared through")]


def start(make, store, log, **options):
    """Share, and return the line of the first contact."""
    before = len(contacts(log))
    registry = make(store.url, **options)
    shared(registry)
    return registry, until(lambda: contacts(log)[before:], "it is logged")[0]


def name_of(registry):
    return registry._settings.sharing._protocol.client_name


def test_each_process_logs_once_which_others_there_are(store, log):
    with registries() as make:
        one, first = start(make, store, log, name="production-1", poll_interval=0.1)
        two, second = start(make, store, log, name="production-2", quorum=2)
        _, third = start(make, store, log, name="staging-1")
        where = f"is shared through 127.0.0.1:{store.port}, prefix 'region-breaker' and"
        assert first == f"{where} quorum 1, with no other process yet"
        assert second == f"{where} quorum 2, with 1 other process: {name_of(one)}"
        assert third.startswith(f"{where} quorum 1, with 2 other processes: ")
        assert {name_of(one), name_of(two)} == set(third.partition("processes: ")[2].split(", "))
        start(make, store, log, name="other", prefix="other")
        assert contacts(log)[-1].endswith("prefix 'other' and quorum 1, with no other process yet")
        store.kill()
        until(lambda: not one.get("eu-west-1").snapshot().shared, "it is noticed")
        store.start()
        shared(one)
    assert len(contacts(log)) == 4


def test_a_process_that_has_ended_is_not_named(store, log):
    with registries() as make:
        one, _ = start(make, store, log)
        one.close()
        with store.client() as client:
            assert client.zcard(KEY) == 0
        _, line = start(make, store, log)
        assert line.endswith("with no other process yet")


def test_a_process_that_has_died_is_forgotten_after_a_while(store, log):
    with store.client() as client, registries() as make:
        client.zadd(KEY, {"00 died-long-ago": 1000.0})
        _, line = start(make, store, log)
        assert line.endswith("with no other process yet")
        assert 0 < client.pttl(KEY) <= 60_000


def test_ten_of_many_are_named(store, log):
    with store.client() as client, registries() as make:
        now = client.time()[0] * 1000
        client.zadd(KEY, {f"{number} host/{number}": now + number for number in range(2000)})
        _, line = start(make, store, log)
        assert "with 2,000 other processes: host/1999, host/1998, " in line
        assert line.endswith("host/1990 and 1,990 more")


def test_without_the_rights_all_else_works(store, log):
    with store.client() as client, registries() as make:
        client.execute_command("ACL", "SETUSER", "old", "on", ">x", "~*", "&*", "+@all", "-zadd")
        client.execute_command("SET", KEY, "and something else stands there")
        shared(make(f"redis://old:x@127.0.0.1:{store.port}"))
        unknown = "with other processes, of which nothing is known: NOPERM"
        until(lambda: [line for line in contacts(log) if unknown in line], "it is logged")
        _, line = start(make, store, log)
        assert line.endswith("with no other process yet"), "and it is replaced"
    assert not lines(log, "WARNING")


# Sizes that would block a server for all its clients, or fill the memory of a process.


def test_a_set_of_any_size_is_removed_and_not_gone_through(store, log):
    def removed():
        return client.info("commandstats")["cmdstat_unlink"]["calls"]

    with store.client() as client, registries() as make:
        start(make, store, log)
        for first in range(0, 200_000, 50_000):
            members = {f"{number} host": number for number in range(first, first + 50_000)}
            client.zadd(KEY, members)
        before = removed()
        _, line = start(make, store, log)
        assert line.endswith("with no other process yet")
        assert removed() == before + 1
        assert client.zcard(KEY) == 1


def test_a_name_of_any_length_stays_in_the_store(store, log):
    with store.client() as client, registries() as make:
        now = client.time()[0] * 1000
        client.zadd(KEY, {"1 " + "x" * 5_000_000: now, "2 host/2": now})
        sent = client.info("stats")["total_net_output_bytes"]
        _, line = start(make, store, log)
        assert line.endswith("with 2 other processes: host/2 and 1 more")
        assert client.info("stats")["total_net_output_bytes"] < sent + 1_000_000


def test_a_sign_of_life_from_the_future_is_none(store, log):
    with store.client() as client, registries() as make:
        client.zadd(KEY, {"1 host/1": (client.time()[0] + 3_600) * 1000})
        _, line = start(make, store, log)
        assert line.endswith("with no other process yet")


PROTOCOL = RecordProtocol("prefix", "me", "host/1", 5.0, 1)


class Answering:
    def __init__(self, answer):
        self.answer = answer

    def run(self, request):
        return self.answer


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (None, "other processes, of which nothing is known"),
        ([1], "other processes, of which nothing is known"),
        ([b"1", []], "other processes, of which nothing is known"),
        ([1, None], "other processes, of which nothing is known"),
        ([3, [b"x" * 500, 5, b"\xff a\nb"]], r"2 other processes: a\nb and 1 more"),
        ([0, []], "no other process yet"),
    ],
)
def test_what_the_store_says_is_not_trusted(answer, text, log):
    Presence(PROTOCOL, 5.0).show(Answering(answer), "here")
    assert contacts(log)[0].endswith(f"with {text}")


def test_signs_of_life_are_rare(monkeypatch, clock):
    shown = []

    class Counting(Answering):
        def run(self, request):
            shown.append(request.arguments)
            raise redis.ResponseError

    monkeypatch.setattr("resilience.integrations.redis.presence.time.monotonic", clock)
    presence = Presence(PROTOCOL, 5.0)
    for _ in range(60):
        presence.show(Counting(None), "here")
        clock.advance(1.0)
    assert len(shown) == 3
    assert shown[0][1] == "60000"
