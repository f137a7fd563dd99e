"""The command line and all processes: over the store through which they share their circuits."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from resilience import CircuitState
from tests.support.sharing import QUICK, registries, shared, trip
from tests.support.stores import serving, until


@pytest.fixture
def store(tmp_path):
    with serving("valkey", tmp_path) as store:
        yield store


@pytest.fixture
def join():
    with registries() as make:
        yield make


def test_status_shows_what_the_store_knows(cli, store, join):
    where = ("--redis", store.url)
    assert cli("status", *where) == (0, "no circuit is known yet\n", "")
    trip(shared(join(store.url, name="busy")))
    until(lambda: "OPEN" in cli("status", *where)[1], "it is in the store")
    _, out, err = cli("status", *where)
    assert err == ""
    assert re.fullmatch(r"OPEN +eu-west-1  for \d+ s +TimeoutError, by \S+/busy\n", out), out
    (circuit,) = json.loads(cli("status", *where, "--json")[1])
    assert (circuit["region"], circuit["state"]) == ("eu-west-1", "OPEN")
    assert cli("status", *where, "--prefix", "another")[1] == "no circuit is known yet\n"


def test_a_change_reaches_every_process(cli, store, join):
    one, other = (shared(join(store.url)) for _ in range(2))
    where = ("--redis", store.url)
    code, out, err = cli("force-open", "eu-west-1", "--reason", "moving", *where, USER="ann")
    assert (code, err) == (0, "")
    assert out.startswith("eu-west-1 is held open in every process until a reset")
    for breaker in (one, other):
        until(lambda breaker=breaker: breaker.state is CircuitState.OPEN, "it is held open")
        assert breaker.snapshot().reason == "forced open: moving"
        assert breaker.retry_after is None
    assert "by operator ann" in cli("status", *where)[1]
    assert cli("reset", "eu-west-1", *where) == (0, "eu-west-1 is CLOSED in every process\n", "")
    for breaker in (one, other):
        until(lambda breaker=breaker: breaker.state is CircuitState.CLOSED, "it is closed")
    assert re.fullmatch(r"CLOSED +eu-west-1  for \d+ s\n", cli("status", *where)[1])


def test_a_region_that_nobody_has_reported_is_pointed_out(cli, store):
    where = ("--redis", store.url)
    for arguments in (("force-open", "eu-wset-1", "--reason", "x"), ("reset", "eu-wset-2")):
        code, out, _ = cli(*arguments, *where)
        assert code == 0
        assert out.endswith(
            "the store has not heard of this region until now: is it spelled correctly?\n"
        )


def test_a_genesys_region_may_be_spelled_in_any_way(cli, store):
    arguments = ("force-open", "https://api.mypurecloud.ie", "--reason", "x")
    _, out, _ = cli(*arguments, "--redis", store.url)
    assert out.startswith("eu-west-1 is held open")


LEFT_OUT = (
    "resilience: the store keeps only the last change of each region, for ten recovery timeouts;"
    " a process knows more: use --url or --socket\n"
)


def test_history_is_the_last_change_of_each_region(cli, store, join):
    where = ("--redis", store.url)
    assert cli("history", *where) == (0, "no change of state is known\n", LEFT_OUT)
    trip(shared(join(store.url, name="busy")))
    until(lambda: "OPEN" in cli("status", *where)[1], "it is in the store")
    cli("force-open", "us-east-1", "--reason", "moving", *where, USER="ann")
    cli("reset", "us-east-1", *where, USER="bob")
    code, out, err = cli("history", *where)
    assert (code, err) == (0, LEFT_OUT)
    opened, closed = out.splitlines()
    assert re.fullmatch(r"\S+  eu-west-1  -> OPEN: TimeoutError, by \S+/busy", opened)
    assert re.fullmatch(r"\S+  us-east-1  -> CLOSED: reset by hand, by operator bob", closed)
    first, last = json.loads(cli("history", *where, "--json")[1])
    times = [datetime.fromisoformat(change["time"]) for change in (first, last)]
    assert times == sorted(times)
    assert all(timedelta(0) <= datetime.now(UTC) - time < timedelta(hours=1) for time in times)
    assert (last["old"], last["new"]) == ("", "CLOSED")


def test_the_history_of_a_circuit_that_is_probed_says_who_opened_it(cli, store, join):
    where = ("--redis", store.url)
    breaker = shared(join(store.url, policy=QUICK, name="busy"))
    trip(breaker)
    until(lambda: breaker.block_until_ready(1), "it may be probed")
    permit = breaker.acquire()
    until(lambda: "HALF_OPEN" in cli("status", *where)[1], "it is in the store")
    _, out, _ = cli("history", *where)
    assert re.fullmatch(r"\S+  eu-west-1  -> HALF_OPEN: after TimeoutError, by \S+/busy\n", out)
    permit.ignore()


def test_a_store_that_is_away_is_one_line_without_the_password(cli, store):
    store.kill()
    url = store.url.replace("redis://", "redis://:hunter2@")
    for arguments in (["status"], ["reset", "a"], ["force-open", "a", "--reason", "b"]):
        code, _, err = cli(*arguments, "--redis", url)
        assert code == 1
        assert re.fullmatch(r"resilience: the store: .+\n", err), err
        assert "hunter2" not in err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--redis", "http://localhost"), "client_or_url is not the URL of a store"),
        (("--redis", "redis://localhost", "--prefix", "{x}"), "prefix must be"),
    ],
)
def test_wrong_settings_are_one_line(cli, arguments, text):
    code, _, err = cli("status", *arguments)
    assert (code, err.count("\n")) == (1, 1)
    assert text in err
