"""Sentinel: the primary is followed through a fail-over. The servers are real."""

import re

import pytest
import redis
import redis.asyncio.sentinel
import redis.sentinel

from resilience.integrations.redis import RedisSharing
from resilience.integrations.redis.backoff import Backoff
from resilience.integrations.redis.discovery import SentinelService
from tests.support.liar import Liar
from tests.support.needs import needs_store
from tests.support.sentinels import SERVICE, Sentinels
from tests.support.sharing import lines, registries, share_a_throttle, shared, trip, warning
from tests.support.stores import SERVERS, binaries, free_port, until


@pytest.fixture(params=SERVERS)
def sentinels(request, tmp_path):
    needs_store(request.param)
    with Sentinels(binaries()[request.param], tmp_path) as sentinels:
        yield sentinels


@pytest.fixture
def valkey_sentinels(tmp_path):
    with Sentinels(binaries()["valkey"], tmp_path) as sentinels:
        yield sentinels


def failed_over(sentinels, old):
    """Wait until all Sentinels name another primary than this one."""

    def names_another():
        try:
            return sentinels.primary() is not old
        except ValueError:  # they do not agree yet
            return False

    until(names_another, "there is another primary")


@pytest.mark.parametrize("kind", [redis.sentinel, redis.asyncio.sentinel], ids=["sync", "async"])
def test_processes_find_the_new_primary_and_take_along_what_they_know(sentinels, kind, log):
    with registries() as make:
        first, second = (make(sentinels.client(kind)) for _ in range(2))
        one, other = shared(first), shared(second)
        trip(one)
        until(lambda: other.state == "OPEN", "it is open")
        old = sentinels.primary()
        old.kill()
        until(lambda: not one.snapshot().shared, "it is noticed")
        failed_over(sentinels, old)
        shared(first), shared(second)
        assert (one.state, other.state) == ("OPEN", "OPEN")
        third = make(sentinels.client(kind))
        until(lambda: shared(third).state == "OPEN", "a new process learns it")
        one.reset()
        until(lambda: other.state == "CLOSED", "it is heard over the new primary")
        share_a_throttle(one, other)
        lost = [line for line in lines(log, "WARNING") if "sharing is lost" in line]
        assert len(lost) == 2, "one of each process"
        assert f"primary of '{SERVICE}' at 127.0.0.1:{old.port}: " in lost[0]
        assert lines(log, "INFO").count("sharing is back") == 2


def test_a_second_fail_over_is_followed_with_one_sentinel_less(valkey_sentinels):
    sentinels = valkey_sentinels
    with registries() as make:
        registry = make(sentinels.client(), poll_interval=0.5)
        breaker = shared(registry)
        old = sentinels.primary()
        old.kill()
        failed_over(sentinels, old)
        shared(registry)
        new = sentinels.primary()
        old.start("--replicaof", "127.0.0.1", str(new.port))
        sentinels.kill_sentinel(sentinels.ports[0])

        def has_replica():
            with new.client() as client:
                return client.info("replication")["connected_slaves"] == 1

        until(has_replica, "the old primary is a replica")
        with new.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")
        shared(registry)
        trip(breaker)
        with new.client() as client:
            until(lambda: client.keys("{region-breaker}:1:*"), "it is written to the new primary")


def test_a_service_that_no_sentinel_knows_is_named_with_what_each_of_them_says(
    valkey_sentinels, log
):
    nobody = free_port()
    valkey_sentinels.kill_sentinel(valkey_sentinels.ports[0])
    addresses = [("127.0.0.1", nobody), ("127.0.0.1", valkey_sentinels.ports[1])]
    with registries() as make:
        make(redis.sentinel.Sentinel(addresses).master_for("other")).get("eu-west-1")
        assert warning(log) == (
            "sharing is lost, circuits go on alone: primary of 'other': no Sentinel names it"
            f" (127.0.0.1:{nobody}: ECONNREFUSED: Connection refused;"
            f" 127.0.0.1:{valkey_sentinels.ports[1]}: it knows of none)"
        )


def test_a_sentinel_that_names_a_server_that_is_gone_is_not_the_only_one_asked(valkey_sentinels):
    cut_off = Liar(b"*2\r\n$9\r\n127.0.0.1\r\n$5\r\n%d\r\n" % free_port())
    addresses = [("127.0.0.1", cut_off.port), *valkey_sentinels.addresses()]
    with registries() as make:
        shared(make(redis.sentinel.Sentinel(addresses).master_for(SERVICE)))
    cut_off.close()


@pytest.mark.parametrize(
    "answer", [b"+OK\r\n", b"*1\r\n$1\r\nx\r\n", b"*2\r\n$1\r\nx\r\n$1\r\ny\r\n", b"-ERR no\r\n"]
)
def test_what_is_no_sentinel_names_no_primary(answer, log):
    liar = Liar(answer)
    with registries() as make:
        client = redis.sentinel.Sentinel([("127.0.0.1", liar.port)]).master_for(SERVICE)
        make(client).get("eu-west-1")
        assert f"no Sentinel names it (127.0.0.1:{liar.port}: " in warning(log)
    liar.close()


def test_the_sentinels_and_the_primary_have_passwords_of_their_own(tmp_path):
    with (
        Sentinels(binaries()["valkey"], tmp_path, "of-the-sentinels") as sentinels,
        registries() as make,
    ):
        for store in sentinels.stores:
            with store.client() as client:
                client.config_set("masterauth", "of-the-store")
                client.config_set("requirepass", "of-the-store")
        for port in sentinels.ports:
            with sentinels.sentinel(port) as client:
                client.execute_command("SENTINEL", "SET", SERVICE, "auth-pass", "of-the-store")
        service = redis.sentinel.Sentinel(
            sentinels.addresses(),
            sentinel_kwargs={"password": "of-the-sentinels"},
            password="of-the-store",
        )
        shared(make(service.master_for(SERVICE)))


@pytest.mark.parametrize("kind", [redis.sentinel, redis.asyncio.sentinel], ids=["sync", "async"])
def test_a_sentinel_itself_and_a_client_of_replicas_are_refused_with_what_to_use(kind):
    sentinel = kind.Sentinel([("127.0.0.1", free_port())])
    with pytest.raises(TypeError, match=re.escape("got a Sentinel: pass the client that its mast")):
        RedisSharing(sentinel)
    with pytest.raises(TypeError, match="got one of its replicas, which take no writes: pass what"):
        RedisSharing(sentinel.slave_for(SERVICE))


def test_the_first_attempt_after_the_sentinels_have_agreed_finds_the_new_primary(
    valkey_sentinels, monkeypatch
):
    # What bounds the time for which a process is alone: a fail-over costs no attempt more, and
    # this is how long it waits before one.
    attempts, waits = [], []
    locate, next_wait = SentinelService.locate, Backoff.next_wait

    def count(service):
        attempts.append(service)
        return locate(service)

    def note(backoff, error):
        waits.append(next_wait(backoff, error))
        return waits[-1]

    monkeypatch.setattr(SentinelService, "locate", count)
    monkeypatch.setattr(Backoff, "next_wait", note)
    with registries() as make:
        # No machine is so slow that these run out.
        registry = make(valkey_sentinels.client(), socket_timeout=30.0, probe_lease=120.0)
        shared(registry)
        old = valkey_sentinels.primary()
        old.kill()
        failed_over(valkey_sentinels, old)
        before = len(attempts)
        shared(registry)
        assert len(attempts) <= before + 1
    assert max(waits) <= 1.5
