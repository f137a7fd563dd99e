"""A name that leads to another server after a fail-over: a DNS name, or the address of a proxy."""

import socket
from contextlib import ExitStack

import pytest

from resilience.integrations.redis.address import Address
from tests.support.liar import Liar
from tests.support.sharing import lines, registries, shared, trip
from tests.support.stores import serving, until

NAME, KEY = "store.example", "{region-breaker}:1:eu-west-1"


class Name:
    """A host name that leads to one of several servers."""

    def __init__(self, *stores):
        self.old, self.new = stores
        self.to = self.old
        self.url = f"redis://{NAME}:6379"
        self._resolve = socket.getaddrinfo

    def resolve(self, host, port, *args, **options):
        if host == NAME:
            host, port = "127.0.0.1", self.to.port
        return self._resolve(host, port, *args, **options)


@pytest.fixture
def name(tmp_path, monkeypatch):
    with ExitStack() as stack:
        name = Name(*(stack.enter_context(serving("valkey", tmp_path)) for _ in range(2)))
        monkeypatch.setattr(socket, "getaddrinfo", name.resolve)
        yield name


def connections(store, kind):
    """Return how many named connections of a kind the server has: those of the sharing."""
    with store.client() as client:
        return len([one for one in client.client_list(_type=kind) if one["name"]])


def test_an_old_primary_that_is_a_replica_now_is_left_for_the_new_one(name, log):
    with registries() as make:
        first, second = (make(name.url, poll_interval=0.2) for _ in range(2))
        one, other = shared(first), shared(second)
        with name.old.client() as client:
            client.replicaof("127.0.0.1", name.new.port)
        name.to = name.new
        until(lambda: len(lines(log, "WARNING")) == 2, "both have noticed it")
        shared(first), shared(second)
        trip(one)
        until(lambda: other.state == "OPEN", "it is heard")
        with name.new.client() as client:
            assert client.exists(KEY), "and was written there"
        assert connections(name.old, "pubsub") == 0
    expected = f"circuits go on alone: {NAME}:6379: READONLY: the server is a replica"
    assert all(line.endswith(expected) for line in lines(log, "WARNING"))


def test_a_command_connection_that_is_made_again_elsewhere_takes_the_subscription_along(name):
    with registries() as make:
        registry = make(name.url, poll_interval=600.0)
        breaker = shared(registry)
        name.to = name.new
        with name.old.client() as client:
            client.client_kill_filter(_type="normal", skipme=True)
        until(lambda: connections(name.new, "pubsub") == 1, "it subscribes there")
        assert connections(name.old, "pubsub") == 0
        shared(make(name.url, poll_interval=600.0)).force_open("maintenance")
        until(lambda: breaker.state == "OPEN", "it is heard")


def test_a_connection_that_is_gone_has_no_peer():
    liar = Liar(b"+OK\r\n")
    connection = Address(liar.url, 5.0).locate().connect()
    assert connection.peer() == ("127.0.0.1", liar.port)
    connection._sock.close()
    assert connection.peer() is None
    connection.disconnect()
    assert connection.peer() is None
    liar.close()
