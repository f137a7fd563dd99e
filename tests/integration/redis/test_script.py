"""The script on real servers: what each command does, and that the twin does the same."""

import importlib.resources
import itertools
from contextlib import contextmanager

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.twin import Twin
from tests.support.needs import needs_store
from tests.support.stores import SERVERS, Store, binaries

SOURCE = importlib.resources.files("resilience.integrations.redis") / "script.lua"
NAMES = (
    "version",
    "state",
    "age",
    "lease_left",
    "is_mine",
    "successes",
    "is_opener",
    "client_name",
    "reason",
    "done",
    "malformed",
    "now",
)
LEASE, RECOVERY, FOREVER = 5_000, 60_000, 10**14
A, B, C = "a" * 16, "b" * 16, "c" * 16
keys = itertools.count()


@pytest.fixture(scope="module", params=SERVERS)
def server(request, tmp_path_factory):
    needs_store(request.param)
    store = Store(binaries()[request.param], tmp_path_factory.mktemp("store"))
    store.start()
    yield store
    store.kill()


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


class Region:
    """One record on a server, in the words of the script."""

    def __init__(self, client):
        self.client = client
        self.key = f"test:{next(keys)}"
        self.script = client.register_script(SOURCE.read_text())

    def change(self, command, client_id, expected=0, argument=0, **options):
        arguments = change(command, client_id, expected, argument, **options)
        return named(self.script(keys=[self.key], args=arguments))

    def read(self, client_id=A, lease=LEASE):
        return named(self.script(keys=[self.key], args=["read", client_id, lease])[0])


def change(
    command,
    client_id,
    expected=0,
    argument=0,
    *,
    lease=LEASE,
    recovery=RECOVERY,
    quorum=1,
    client_name="host/1",
    reason="E 503",
    not_after=FOREVER,
):
    """Return the arguments of a command."""
    arguments = [
        command,
        client_id,
        lease,
        "hints",
        expected,
        recovery,
        quorum,
        argument,
        client_name,
        reason,
        not_after,
    ]
    return [str(argument) for argument in arguments]


def named(reply):
    assert reply[0] == 1
    return dict(zip(NAMES, reply[1:], strict=True))


@pytest.fixture
def region(client):
    return Region(client)


def test_a_trip_opens_the_fleet_with_its_age_and_says_who(region):
    opened = region.change("trip", A, argument=1_500)
    assert opened["state"] == b"O"
    assert opened["done"] == 1
    assert 1_500 <= opened["age"] < 60_000
    assert (opened["client_name"], opened["reason"], opened["is_opener"]) == (
        b"host/1",
        b"E 503",
        1,
    )
    assert region.read(client_id=B)["is_opener"] == 0


def test_a_trip_that_comes_twice_is_one(region):
    first = region.change("trip", A)
    again = region.change("trip", A)
    assert again["version"] == first["version"]
    assert again["done"] == 0


def test_a_trip_that_comes_too_late_opens_nobody(region):
    late = region.change("trip", A, not_after=1)
    assert late["done"] == 2
    assert region.read()["state"] == b""


def test_a_change_decided_on_an_old_version_does_nothing(region):
    opened = region.change("trip", A)
    closed = region.change("close", A, expected=opened["version"])
    assert closed["state"] == b"C"
    for op in ("trip", "take", "renew", "release", "close", "reopen"):
        assert region.change(op, B, expected=opened["version"])["version"] == closed["version"], op
    assert region.read()["state"] == b"C"


def test_votes_open_at_the_quorum_and_one_process_counts_once(region):
    for _ in range(2):
        vote = region.change("trip", A, quorum=2)
        assert (vote["state"], vote["done"]) == (b"C", 1)
    assert region.change("trip", B, quorum=2)["state"] == b"O"


def test_a_vote_ends_with_the_recovery_timeout_and_by_being_withdrawn(region):
    region.change("trip", A, quorum=2, argument=10**9)
    assert region.change("trip", B, quorum=2)["state"] == b"C"
    assert region.change("withdraw", B)["done"] == 1
    assert region.change("withdraw", B)["done"] == 0
    assert region.change("trip", C, quorum=2)["state"] == b"C"


def test_one_process_has_the_lease_and_asking_again_gives_the_same_fence(region):
    opened = region.change("trip", A)
    taken = region.change("take", A, expected=opened["version"], recovery=0)
    assert (taken["state"], taken["is_mine"], taken["lease_left"]) == (b"H", 1, LEASE)
    assert region.change("take", A, expected=taken["version"])["version"] == taken["version"]
    other = region.change("take", B, expected=taken["version"])
    assert (other["done"], other["is_mine"]) == (0, 0)


def test_a_lease_that_ran_out_goes_to_the_next_process_and_fences_the_old_holder_off(region):
    opened = region.change("trip", A)
    old = region.change("take", A, expected=opened["version"], recovery=0)
    region.change("renew", A, expected=old["version"], argument=2)
    new = region.change("take", B, expected=old["version"], lease=0)
    assert (new["is_mine"], new["successes"]) == (1, 2), "who takes over goes on with the count"
    for op in ("renew", "release", "close", "reopen"):
        assert region.change(op, A, expected=old["version"])["done"] == 0, op
        assert region.change(op, A, expected=new["version"])["done"] == 0, op
    assert region.read(client_id=B)["is_mine"] == 1


def test_an_open_that_is_not_due_gives_no_lease(region):
    opened = region.change("trip", A)
    assert region.change("take", B, expected=opened["version"])["done"] == 0


def test_a_record_that_is_gone_is_made_again_above_every_version_seen(region):
    far = 10**14
    assert region.change("renew", A, expected=far, argument=1)["version"] > far
    region.client.delete(region.key)
    assert region.change("trip", A, expected=far)["version"] > far


def test_a_reset_and_a_force_need_no_version(region):
    region.change("trip", A)
    forced = region.change("force", B, reason="forced open: maintenance")
    assert (forced["state"], forced["reason"]) == (b"F", b"forced open: maintenance")
    assert region.change("trip", A, expected=forced["version"])["done"] == 0
    assert region.change("reset", C)["state"] == b"C"


def test_a_forced_record_lives_a_day_and_each_poll_renews_it(region):
    region.change("force", A)
    region.client.pexpire(region.key, 5_000)
    region.script(keys=["canary", region.key], args=["poll", A, LEASE])
    assert region.client.pttl(region.key) > 80_000_000
    assert region.client.get("canary") == A.encode()


def test_every_change_has_a_time_to_live_and_publishes_a_notification(region):
    hints = region.client.pubsub(ignore_subscribe_messages=True)
    hints.subscribe("hints")
    hints.get_message(timeout=5)
    opened = region.change("trip", A)
    assert 60_000 < region.client.pttl(region.key) <= 600_000
    hint = hints.get_message(timeout=5)["data"]
    assert hint == f"{opened['version']} {region.key}".encode()
    hints.close()


FAR = str(10**14)
SPOILT = {
    **dict.fromkeys(("f", "v", "s", "at", "own", "beat", "n", "by", "sum"), "9" * 16),
    **dict.fromkeys(("who", "why", "votes"), "x" * 100000),
    "one more": "field",
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_field_makes_the_record_absent_and_the_next_change_repairs_it(region, name):
    opened = region.change("trip", A)
    region.client.hset(region.key, name, SPOILT[name])
    spoilt = region.read()
    assert (spoilt["malformed"], spoilt["state"], spoilt["version"]) == (1, b"", 0)
    again = region.change("trip", A, expected=opened["version"])
    assert (again["state"], again["malformed"]) == (b"O", 0)
    assert again["version"] > opened["version"]
    assert region.read()["malformed"] == 0


@pytest.mark.parametrize(
    ("name", "value"), [("s", "F"), ("at", FAR), ("beat", FAR), ("v", FAR), ("n", "3")]
)
def test_a_plausible_value_that_nobody_wrote_is_noticed(region, name, value):
    region.change("trip", A)
    region.client.hset(region.key, name, value)
    assert region.read()["malformed"] == 1


def test_a_value_that_is_not_a_hash_is_replaced(region):
    region.client.set(region.key, "?")
    assert region.read()["malformed"] == 1
    assert region.change("trip", A)["state"] == b"O"


def test_an_unknown_change_is_refused(region):
    with pytest.raises(redis.ResponseError, match="unknown change"):
        region.change("destroy", A)


# The twin

CHANGES = ("trip", "withdraw", "take", "renew", "release", "close", "reopen", "reset", "force")
durations = st.sampled_from((0, 1, 10_000, 10**11))
steps = st.tuples(
    st.sampled_from((*CHANGES, "read", "poll", "lose", "spoil")),
    st.sampled_from((A, B, C)),
    st.sampled_from((-1, 0, 1, None)),  # the version known: that of so many changes ago, or none
    st.fixed_dictionaries(
        {
            "argument": durations,
            "lease": durations,
            "recovery": durations,
            "quorum": st.integers(1, 3),
            "not_after": st.sampled_from((1, FOREVER, FOREVER, FOREVER)),
            "reason": st.sampled_from(("E 503", "TimeoutError", "überlastet ☃")),
        }
    ),
)


@contextmanager
def announcements_of(client):
    hints = client.pubsub(ignore_subscribe_messages=True)
    hints.subscribe("hints")
    hints.get_message(timeout=5)
    yield hints
    hints.close()


@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(steps, max_size=25))
def test_the_twin_replies_what_the_script_replies(client, many):
    region = Region(client)
    clock, published = [0], []
    twin = Twin(lambda: clock[0], lambda channel, message: published.append((channel, message)))
    versions = [0]
    with announcements_of(client) as announcements:
        for command, client_id, ago, options in many:
            known = 0 if ago is None else max(0, versions[-1] + ago)
            if command == "lose":
                client.delete(region.key)
                twin.hashes.clear()
                continue
            if command == "spoil":
                if client.exists(region.key):
                    client.hset(region.key, "n", "7777")
                    twin.hashes[region.key]["n"] = "7777"
                continue
            if command in ("read", "poll"):
                names = [*["canary"] * (command == "poll"), region.key]
                arguments = [command, client_id, str(options["lease"])]
            else:
                names, arguments = [region.key], change(command, client_id, known, **options)
            reply = region.script(keys=names, args=arguments)
            clock[0] = reply[0][-1] if command in ("read", "poll") else reply[-1]
            assert twin.run(names, arguments) == reply
            if command not in ("read", "poll"):
                versions.append(max(versions[-1], reply[1]))
        client.publish("hints", "the end")
        received = []
        while (message := announcements.get_message(timeout=5)["data"].decode()) != "the end":
            received.append(("hints", message))
    assert received == published
