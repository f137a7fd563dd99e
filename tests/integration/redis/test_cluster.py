"""Cluster: the node that has the circuits is found, also after a fail-over. The nodes are real."""

import pytest
import redis.asyncio.cluster
import redis.cluster

from resilience.integrations.redis.address import Address
from tests.support.needs import needs_store
from tests.support.sharing import lines, registries, share_a_throttle, shared, trip
from tests.support.store_cluster import SLOT, StoreCluster
from tests.support.stores import SERVERS, binaries, until


@pytest.fixture(scope="module", params=SERVERS)
def cluster(request, tmp_path_factory):
    needs_store(request.param)
    with StoreCluster(binaries()[request.param], tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def own_cluster(tmp_path):
    with StoreCluster(binaries()["valkey"], tmp_path) as cluster:
        yield cluster


def by_url(node):
    return node.url


def by_client(node):
    return redis.cluster.RedisCluster(host="127.0.0.1", port=node.port)


def by_async_client(node):
    return redis.asyncio.cluster.RedisCluster(host="127.0.0.1", port=node.port)


@pytest.mark.parametrize("way", [by_url, by_client, by_async_client])
def test_any_node_leads_to_the_one_that_has_the_circuits(cluster, way, log):
    with registries() as make:
        firsts = [make(way(node)) for node in cluster.nodes]
        one, *others = [shared(registry) for registry in firsts]
        trip(one)
        until(lambda: {other.state for other in others} == {"OPEN"}, "all are open")
        one.reset()
        until(lambda: {other.state for other in others} == {"CLOSED"}, "all are closed")
        share_a_throttle(one, others[0])
    assert not lines(log, "WARNING"), "being sent to another node is not a fault"


@pytest.mark.parametrize("way", [by_client, by_async_client])
def test_a_fail_over_is_followed(own_cluster, way):
    with registries() as make:
        first, second = (make(way(node)) for node in own_cluster.others)
        one, other = shared(first), shared(second)
        trip(one)
        until(lambda: other.state == "OPEN", "it is open")
        own_cluster.owner.kill()
        until(lambda: not one.snapshot().shared, "it is noticed")
        shared(first), shared(second)
        assert (one.state, other.state) == ("OPEN", "OPEN")
        one.reset()
        until(lambda: other.state == "CLOSED", "it is heard over the new primary")
        with own_cluster.replica.client() as client:
            assert client.exists("{region-breaker}:1:eu-west-1")


# What a node that is asked in vain says


def moved(to):
    """Return what redis-py raises for the answer of a node, in the words of its versions."""
    return [redis.ResponseError(f"MOVED {SLOT} {to}"), redis.ResponseError(f"{SLOT} {to}")]


@pytest.mark.parametrize("number", [0, 1])
def test_a_node_that_points_elsewhere_is_followed_once_and_then_the_known_one_is_tried(number):
    address = Address("redis://user:secret@one:1/0", 0.5)
    assert str(address.locate()) == "one:1"
    assert address.follow(moved("two:2")[number])
    assert str(address.locate()) == "two:2"
    assert not address.follow(moved("three:3")[number]), "that is a fault"
    assert str(address.locate()) == "three:3"
    assert not address.follow(redis.ConnectionError())
    assert str(address.locate()) == "one:1"
    assert "secret" not in f"{address!r} {address} {address.locate()!r}"


@pytest.mark.parametrize("host", ["", "?"])
def test_a_node_that_does_not_know_its_host_means_its_own(host):
    address = Address("redis://one:1", 0.5)
    address.locate()
    assert address.follow(moved(f"{host}:2")[0])
    assert str(address.locate()) == "one:2"


@pytest.mark.parametrize(
    "answer", ["MOVED", "MOVED 1 two", "ERR MOVED 1 two:2", "MOVED 1 x:200000"]
)
def test_what_points_nowhere_is_a_fault(answer):
    address = Address("redis://one:1", 0.5)
    address.locate()
    assert not address.follow(redis.ResponseError(answer))
    assert str(address.locate()) == "one:1"


def test_a_client_of_a_cluster_with_tls_and_a_password_keeps_both():
    cluster = redis.asyncio.cluster.RedisCluster(
        host="one", port=1, ssl=True, username="user", password="secret"
    )
    server = Address(cluster, 0.5).locate()
    assert server._settings["password"] == "secret"
    assert server._settings["ssl_check_hostname"] is True
    assert server._connection_type.__name__ == "_TlsConnection"
    assert "secret" not in repr(server)
