"""The access rights that the docs name are enough, and none of them is superfluous."""

import re
import shlex
from pathlib import Path

import pytest
import redis.sentinel

from tests.support.needs import needs_store
from tests.support.sentinels import SERVICE, Sentinels
from tests.support.sharing import QUICK, call, registries, share_a_throttle, shared, trip
from tests.support.stores import SERVERS, Store, binaries, serving, until

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "share-circuits.md"
SECTION = PAGE.read_text(encoding="utf-8").partition("## Access rights")[2]


def line_in_the_docs():
    """Return the arguments of the ACL SETUSER that the docs show."""
    command = re.search(r"\$ valkey-cli (ACL SETUSER .*?)```", SECTION, re.DOTALL)[1]
    return shlex.split(command.replace("\\\n", " "))


def rights_in_the_line():
    return [word for word in line_in_the_docs() if word[0] == "+"]


@pytest.fixture(params=SERVERS)
def store(request, tmp_path):
    needs_store(request.param)
    with serving(request.param, tmp_path) as store:
        yield store


def denied(client):
    """Return what the server has denied to anybody."""
    return {entry["object"] for entry in client.acl_log()}


def test_the_line_and_the_list_name_the_same_rights():
    commands = SECTION.partition("It also needs")[0]
    listed = {f"+{name.lower()}" for name in re.findall("`([A-Z|]+)`", commands)}
    assert listed == set(rights_in_the_line())


def test_with_exactly_these_rights_a_fleet_shares_and_nothing_is_denied(store):
    with store.client() as client, registries() as make:
        client.execute_command(*line_in_the_docs())
        url = f"redis://breaker:secret@127.0.0.1:{store.port}/1"
        one, other = (shared(make(url, policy=QUICK, poll_interval=0.1)) for _ in range(2))
        trip(one)
        until(lambda: other.state != "CLOSED", "it is heard")
        until(lambda: call(one) and one.state == "CLOSED", "it recovers")
        until(lambda: other.state == "CLOSED", "that is heard")
        one.force_open("maintenance")
        until(lambda: other.state == "OPEN", "it is forced open")
        polls = client.info("commandstats")["cmdstat_pexpire"]["calls"]
        until(
            lambda: client.info("commandstats")["cmdstat_pexpire"]["calls"] > polls + 2,
            "polls renew the record",
        )
        # What follows a flush, and a record that is malformed.
        client.script_flush()
        client.select(1)
        key = "{region-breaker}:1:eu-west-1"
        client.set(key, "?")
        until(lambda: client.type(key) in ("hash", b"hash"), "the record is written anew")
        one.reset()
        until(lambda: other.state == "CLOSED", "it is closed")
        client.set("{region-breaker}:throttle:eu-west-1:acme", "?")
        share_a_throttle(one, other)
        assert denied(client) == set()


@pytest.mark.parametrize("right", rights_in_the_line())
def test_no_right_is_superfluous(tmp_path, right):
    store = Store(binaries()["valkey"], tmp_path)
    store.start()
    with store.client() as client, registries() as make:
        client.execute_command(*line_in_the_docs())
        client.execute_command("ACL", "SETUSER", "breaker", f"-{right[1:]}")
        registry = make(f"redis://breaker:secret@127.0.0.1:{store.port}/1", poll_interval=0.1)
        client.select(1)
        client.set("{region-breaker}:1:eu-west-1", "?")
        registry.get("eu-west-1").force_open("maintenance")

        def is_missed():
            client.script_flush()
            return right[1:] in denied(client)

        until(is_missed, "it is missed")
    store.kill()


def test_sentinels_are_asked_nothing_else(tmp_path):
    with Sentinels(binaries()["valkey"], tmp_path) as sentinels, registries() as make:
        for port in sentinels.ports:
            with sentinels.sentinel(port) as client:
                client.execute_command(
                    "ACL", "SETUSER", "asker", "on", ">secret", "nocommands",
                    "+sentinel|get-master-addr-by-name",
                )  # fmt: skip
        asker = {"username": "asker", "password": "secret"}
        service = redis.sentinel.Sentinel(sentinels.addresses(), sentinel_kwargs=asker)
        shared(make(service.master_for(SERVICE)))
