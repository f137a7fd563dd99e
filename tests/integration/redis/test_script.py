"""The script on real servers: what each command does, and that the twin does the same."""

import itertools
import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.twin import Twin
from resilience.integrations.redis.fault import describe_fault
from resilience.integrations.redis.notification import newest
from resilience.integrations.redis.protocol import SCRIPT, RecordProtocol, parse_reply
from tests.support.needs import needs_store
from tests.support.stores import SERVERS, serving

PREVIOUS = Path(__file__).parents[2] / "support" / "script_before_signatures.lua"
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
SECRET_KEY, SECRET = "secret", "5" * 32
A, B, C = "a" * 16, "b" * 16, "c" * 16
keys = itertools.count()


@pytest.fixture(scope="module", params=SERVERS)
def server(request, tmp_path_factory):
    needs_store(request.param)
    with serving(request.param, tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


class Region:
    """One record on a server, in the words of the script."""

    def __init__(self, client):
        self.client = client
        self.key = f"test:{next(keys)}"
        self.script = client.register_script(SCRIPT)

    def change(self, command, client_id, expected=0, argument=0, **options):
        arguments = change(command, client_id, expected, argument, **options)
        return named(self.script(keys=[self.key, SECRET_KEY], args=arguments))

    def poll(self, client_id=A):
        keys = ["canary", SECRET_KEY, self.key]
        poll = self.script(keys=keys, args=["poll", client_id, LEASE, "hints", SECRET])
        secret, self.fleet_size, reply = poll
        assert secret == SECRET.encode()
        return named(reply)

    def read(self, client_id=A, lease=LEASE):
        return named(self.script(keys=[self.key], args=["read", client_id, lease])[0])

    def previously(self, command, client_id, expected=0, argument=0, **options):
        """Change it as a process does that has the version of the package before this one."""
        script = self.client.register_script(PREVIOUS.read_text())
        if command == "read":
            return named(script(keys=[self.key], args=["read", client_id, LEASE])[0])
        arguments = change(command, client_id, expected, argument, **options)
        return named(script(keys=[self.key], args=arguments))


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
    region.poll()
    assert region.client.pttl(region.key) > 80_000_000
    assert region.client.hgetall("canary").keys() == {b"at"}


def test_every_change_has_a_time_to_live_and_publishes_a_notification(region):
    region.client.delete(SECRET_KEY)
    with announcements_of(region.client) as announcements:
        opened = region.change("trip", A)
        assert 60_000 < region.client.pttl(region.key) <= 600_000
        # Without a secret there is nothing to sign with, and this is all.
        hint = announcements.get_message(timeout=5)["data"]
        assert hint == f"{opened['version']} {region.key}".encode()
        region.poll()
        closed = region.change("close", A, expected=opened["version"])
        announcements.get_message(timeout=5)
        hint = announcements.get_message(timeout=5)["data"]
        assert hint == f"{closed['version']} {region.key}".encode()


@pytest.mark.parametrize("client_id", [A, B])
def test_a_signed_notification_says_what_a_read_would_have_replied(region, client_id):
    region.poll()
    protocol = RecordProtocol("p", client_id, "host/2", LEASE / 1000, 1)
    with announcements_of(region.client) as announcements:
        version = 0
        for command, options in (
            ("trip", {"argument": 1_500, "reason": "überlastet ☃"}),
            ("take", {"recovery": 0}),
            ("release", {"argument": 2}),
            ("force", {"client_name": "x" * 300, "reason": "y" * 300}),
            ("reset", {}),
        ):
            changed = region.change(command, A, expected=version, **options)
            version = changed["version"]
            contents = [announcements.get_message(timeout=5)["data"] for _ in range(2)]
            (notification,) = newest(contents).values()
            view = notification.view(protocol, SECRET.encode(), 0.25)
            read = region.script(keys=[region.key], args=["read", client_id, LEASE])[0]
            expected = parse_reply(read, 0.25).view
            assert (notification.key, notification.version) == (region.key, version)
            assert 0.0 <= expected.age - view.age < 60.0
            assert 0.0 <= view.lease_left - expected.lease_left < 60.0
            unlike = {"age": expected.age, "lease_left": expected.lease_left}
            assert replace(view, **unlike) == expected


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


def test_a_poll_replies_how_many_processes_heard_the_last_change(region):
    region.client.delete(SECRET_KEY)
    region.poll()
    assert region.fleet_size == 0
    with announcements_of(region.client), announcements_of(region.client):
        region.change("force", A)
    region.poll()
    assert region.fleet_size == 2
    region.client.hset(SECRET_KEY, "size", "many")
    region.poll()
    assert region.fleet_size == 0


def test_a_secret_that_is_none_is_replaced(region):
    for spoil in (
        lambda: region.client.set(SECRET_KEY, "?"),
        lambda: region.client.hset(SECRET_KEY, mapping={"secret": "x" * 33, "size": "0"}),
        lambda: region.client.hset(SECRET_KEY, mapping={"secret": "x", "another": "field"}),
    ):
        region.client.delete(SECRET_KEY)
        spoil()
        region.poll()
        assert region.client.hgetall(SECRET_KEY) == {b"secret": SECRET.encode(), b"size": b"0"}
        assert region.client.pttl(SECRET_KEY) > 80_000_000


# Sizes that would block a server for all its clients, if they were read.


def reads(client):
    """Return how many hashes the server has read."""
    return client.info("commandstats").get("cmdstat_hmget", {"calls": 0})["calls"]


@pytest.mark.parametrize("kind", ["many fields", "one large field"])
def test_a_record_of_any_size_counts_as_absent_and_is_not_read(region, kind):
    region.client.delete(SECRET_KEY)
    opened = region.change("trip", A)
    if kind == "many fields":
        region.client.hset(region.key, mapping={f"field {n}": n for n in range(100_000)})
    else:
        region.client.hset(region.key, "why", "x" * 10_000_000)
    before = reads(region.client)
    seen = region.read()
    assert (seen["malformed"], seen["state"]) == (1, b"")
    assert reads(region.client) == before
    again = region.change("trip", A, expected=opened["version"])
    assert (again["state"], again["malformed"]) == (b"O", 0)
    assert reads(region.client) == before
    assert region.client.hlen(region.key) == 12


def calls(client, command):
    """Return how often the server has run a command."""
    return client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]


@pytest.mark.parametrize("missing", ["votes", "own", "sum"])
def test_a_field_that_nobody_expects_is_not_read_in_the_place_of_another(region, missing):
    opened = region.change("trip", A)
    region.client.hdel(region.key, missing)
    region.client.hset(region.key, "?", "x" * 10_000_000)
    before = calls(region.client, "hgetall")
    assert region.read()["malformed"] == 1
    again = region.change("trip", A, expected=opened["version"])
    assert (again["state"], again["malformed"]) == (b"O", 0)
    assert calls(region.client, "hgetall") == before
    assert region.client.hlen(region.key) == 12


def test_something_else_in_the_place_of_the_canary_is_removed(region):
    region.client.set("canary", "?")
    region.poll()
    assert region.client.hgetall("canary").keys() == {b"at"}


@pytest.mark.parametrize("years", [2, 50])
def test_versions_of_a_clock_that_was_years_ahead_are_outgrown(region, years):
    seconds, _ = region.client.time()
    ahead = (seconds + years * 31_536_000) * 1_000
    assert region.change("trip", A, expected=ahead)["version"] > ahead
    seen = region.read()
    assert (seen["state"], seen["malformed"]) == (b"O", 0)


def test_a_large_record_is_removed_also_where_unlink_is_not_allowed(region):
    region.client.set(region.key, "?")
    region.client.execute_command("ACL", "SETUSER", "default", "-unlink")
    try:
        assert region.change("trip", A)["state"] == b"O"
    finally:
        region.client.execute_command("ACL", "SETUSER", "default", "+unlink")


# A rolling deployment: processes of this version and of the one before share a store.


def test_the_version_before_reads_and_changes_the_same_records(region):
    region.poll()
    version = 0
    for turn, (command, options) in enumerate(
        [
            ("trip", {"quorum": 2}),
            ("trip", {"quorum": 2, "client_id": B}),
            ("take", {"recovery": 0}),
            ("renew", {"argument": 1}),
            ("release", {"argument": 2}),
            ("take", {"lease": 0}),
            ("close", {}),
            ("force", {"reason": "überlastet ☃"}),
            ("reset", {}),
        ]
    ):
        client_id = options.pop("client_id", A)
        doer = region.change if turn % 2 else region.previously
        changed = doer(command, client_id, expected=version, **options)
        assert changed["done"] == 1, command
        version = changed["version"]
        timeless = {"now": 0, "age": 0, "lease_left": 0}
        assert region.read() | timeless == region.previously("read", A) | timeless


def test_the_version_before_finds_its_notification_among_ours(region):
    theirs = re.compile(rb"([0-9]{1,15}) (.{1,500})", re.DOTALL)
    region.poll()
    with announcements_of(region.client) as announcements:
        opened = region.change("trip", A)
        found = [theirs.fullmatch(announcements.get_message(timeout=5)["data"]) for _ in range(2)]
    versions = {match[2].decode(): int(match[1]) for match in found if match}
    assert versions[region.key] == opened["version"]
    with announcements_of(region.client) as announcements:
        closed = region.previously("close", A, expected=opened["version"])
        (notification,) = newest([announcements.get_message(timeout=5)["data"]]).values()
    assert (notification.key, notification.version) == (region.key, closed["version"])


# Access rights

RECORDS_NEED = ("hset", "hmget", "hlen", "hstrlen", "pexpire", "publish", "time")


@pytest.mark.parametrize("name", RECORDS_NEED)
def test_a_poll_fails_where_a_change_would(region, name):
    region.change("trip", A)
    user = f"without-{name}"
    region.client.execute_command(
        "ACL", "SETUSER", user, "on", "nopass", "~*", "&*", "+@all", f"-{name}"
    )
    port = region.client.get_connection_kwargs()["port"]
    with redis.Redis(port=port, username=user, password="any") as client:
        restricted = Region(client)
        with pytest.raises(redis.ResponseError):
            restricted.poll()
        # The record is absent, so that a change has nothing to read.
        if name not in ("hmget", "hstrlen"):
            with pytest.raises(redis.ResponseError):
                restricted.change("trip", A)


def test_a_poll_fails_where_the_channel_is_not_allowed(region):
    region.client.execute_command(
        "ACL", "SETUSER", "elsewhere", "on", "nopass", "~*", "resetchannels", "+@all"
    )
    port = region.client.get_connection_kwargs()["port"]
    refused = pytest.raises(redis.ResponseError, match="channel")
    with redis.Redis(port=port, username="elsewhere", password="any") as client, refused:
        Region(client).poll()


def test_a_server_without_a_check_of_rights_names_what_is_missing_when_something_changes(region):
    """Redis before version 7: a poll that announced something each time would cost too much."""
    region.client.execute_command(
        "ACL", "SETUSER", "silent", "on", "nopass", "~*", "&*", "+@all", "-publish"
    )
    port = region.client.get_connection_kwargs()["port"]
    with redis.Redis(port=port, username="silent", password="any") as client:
        restricted = Region(client)
        restricted.script = client.register_script(SCRIPT.replace("acl_check_cmd", "not_there"))
        restricted.poll()
        with pytest.raises(redis.ResponseError) as caught:
            restricted.change("trip", A)
        assert describe_fault(caught.value).text.startswith("NOPERM: ")
        assert restricted.read()["state"] == b"O", "others find it with their next poll"


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
    secret_key = f"{region.key}:secret"
    clock, published = [0], []

    def publish(channel, message):
        published.append((channel, message))
        return 1

    twin = Twin(lambda: clock[0], publish)
    versions = [0]
    with announcements_of(client) as announcements:
        for command, client_id, ago, options in many:
            known = 0 if ago is None else max(0, versions[-1] + ago)
            if command == "lose":
                client.delete(region.key, secret_key)
                twin.hashes.clear()
                continue
            if command == "spoil":
                if client.exists(region.key):
                    client.hset(region.key, "n", "7777")
                    twin.hashes[region.key]["n"] = "7777"
                continue
            if command == "read":
                names, arguments = [region.key], [command, client_id, str(options["lease"])]
            elif command == "poll":
                names = ["canary", secret_key, region.key]
                arguments = [command, client_id, str(options["lease"]), "hints", SECRET]
            else:
                names = [region.key, secret_key]
                arguments = change(command, client_id, known, **options)
            reply = region.script(keys=names, args=arguments)
            clock[0] = reply[-1][-1] if command in ("read", "poll") else reply[-1]
            assert twin.run(names, arguments) == reply
            if command not in ("read", "poll"):
                versions.append(max(versions[-1], reply[1]))
        client.publish("hints", "the end")
        received = []
        while (message := announcements.get_message(timeout=5)["data"].decode()) != "the end":
            received.append(("hints", message))
    assert received == published
