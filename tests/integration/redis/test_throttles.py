"""What the store knows of throttled tenants: on real servers, and whoever else writes to them."""

import hashlib
import itertools
from contextlib import closing, contextmanager
from types import SimpleNamespace

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilience import TenantThrottledError, region_breaker
from resilience.integrations.redis.protocol import InvalidReplyError, RecordProtocol
from resilience.integrations.redis.throttle_protocol import (
    SCRIPT,
    ThrottleProtocol,
    genuine,
    parse_found,
    parse_throttle_reply,
)
from resilience.shared_tenant_table import ThrottleChange, ThrottleCommand
from tests.support.needs import needs_store
from tests.support.sharing import QUICK, lines, registries, shared
from tests.support.sharing_worker import REGION
from tests.support.stores import SERVERS, Store, binaries, serving, until
from tests.support.tenant_store import TenantStore

CHANNEL, SECRET_KEY = "{region-breaker}:hints", "{region-breaker}:secret"
REGION_KEY = f"{{region-breaker}}:1:{REGION}"
DIGEST = hashlib.sha1(SCRIPT.encode()).hexdigest()


@pytest.fixture(scope="module", params=SERVERS)
def server(request, tmp_path_factory):
    needs_store(request.param)
    with serving(request.param, tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def store(server):
    with server.client() as client:
        client.flushall()
        client.script_flush()
    return server


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


class TooManyRequestsError(Exception):
    status = 429

    def __init__(self, seconds=30):
        self.headers = {"Retry-After": str(seconds)}


def refuse(breaker, tenant="acme", seconds=30):
    breaker.observe(TooManyRequestsError(seconds), tenant=tenant)


def hears(breaker, tenant="acme"):
    return lambda: breaker.tenants.wait_of(tenant) > 0


@pytest.fixture
def make(store):
    """Make breakers of one region, in registries that share; their tenants are in use."""
    with registries() as make:

        def make_breaker(**options):
            registry = make(store.url, **{"poll_interval": 300.0} | options)
            registry.expect_tenants()
            breaker = shared(registry)
            until(lambda: table(breaker) is not None and table(breaker).shared, "they are shared")
            return breaker

        yield make_breaker


def table(breaker):
    return breaker.circuit.tenant_table


# Two processes


def test_a_429_in_one_process_stops_the_tenant_in_the_others(make):
    one, other, third = make(), make(), make()
    refuse(one)
    until(hears(other), "it is heard")
    until(hears(third), "it is heard")
    assert 29 < other.tenants.wait_of("acme") <= 30.01
    assert other.tenants.wait_of("another") == 0


def test_what_is_taken_over_makes_no_event(make):
    one, other = make(), make()
    events = []
    other.tenants.listen(events.append)
    refuse(one)
    until(hears(other), "it is heard")
    assert events == []


def test_a_poll_makes_up_for_announcements_that_were_lost(make, client, log):
    one, other = make(), make(poll_interval=0.1)
    client.hset(SECRET_KEY, "secret", "x" * 40)  # nothing can be signed
    refuse(one)
    until(hears(other), "it is found")
    assert not any("acme" in text for text in lines(log, "INFO", "WARNING", "ERROR"))


def test_a_process_that_starts_finds_those_that_wait(make):
    one = make()
    for number in range(300):
        refuse(one, f"tenant {number}", 100 + number)
    other = make()
    until(hears(other, "tenant 299"), "it is sent")
    late = make()
    assert late.tenants.wait_of("tenant 299") > 0
    assert len(late.throttled_tenants) == 200


def test_a_process_without_tenants_runs_no_script_and_keeps_nothing(store, make, client):
    with registries() as make_registry:
        plain = shared(make_registry(store.url, poll_interval=0.05))
        assert client.script_exists(DIGEST) == [False]
        one, other = make(), make()
        refuse(one)
        until(hears(other), "it is heard")
        assert plain.circuit.tenant_table is None


def test_the_first_use_of_tenants_reads_what_others_know(store, make):
    with registries() as make_registry:
        late = shared(make_registry(store.url, poll_interval=300.0))
        one, other = make(), make()
        refuse(one)
        until(hears(other), "it is heard")
        assert late.tenants.wait_of("unknown") == 0
        until(hears(late), "it is read")


def test_a_function_with_tenants_makes_its_process_follow_the_others(store, make):
    with registries() as make_registry:
        registry = make_registry(store.url)

        @region_breaker(region_from="region", tenant_from="tenant", registry=registry)
        def send(region, tenant):
            return "sent"

        one = make()
        assert send(REGION, "acme") == "sent"
        until(lambda: table(registry.get(REGION)), "it follows")
        refuse(one)
        until(hears(registry.get(REGION)), "it is heard")
        with pytest.raises(TenantThrottledError):
            send(REGION, "acme")


def test_names_of_all_kinds(make):
    one, other = make(), make()
    for name in ("{brace}:*", "日本" * 100, "x" * 200):
        refuse(one, name)
        until(hears(other, name), "it is heard")
    for name in ("a\r\nb", "\ud800", "x" * 201):  # known by another name, which each has to learn
        refuse(other, name, 1)
        refuse(one, name, 60)
        until(lambda name=name: other.tenants.wait_of(name) > 30, "it is heard")


def test_a_process_that_ends_gives_its_lease_back(store, make):
    one, other = make(), make()
    for breaker in (one, other):
        breaker.tenants.throttle("acme", 0.001)
    until(lambda: one.tenants.expects_call("acme") == 0.0, "it is granted")
    one.tenants.start("acme")
    until(lambda: table(other)._leases, "the other one knows")
    sharing_of(one).close()
    until(lambda: other.tenants.expects_call("acme") == 0.0, "it is granted")


def sharing_of(breaker):
    return breaker.circuit._notify.func.__self__


def test_a_command_that_is_late_since_the_clock_of_the_store_has_moved_is_sent_again(make):
    one, other = make(), make()
    sharing_of(one)._synchronizer._clock.offset -= 100.0
    refuse(one)
    until(hears(other), "it is heard")


def test_a_burst_of_refusals_leaves_time_for_the_circuits(make):
    one, other = make(policy=QUICK), make(policy=QUICK)
    for number in range(900):
        refuse(one, f"tenant {number}")
    for _ in range(2):
        one.acquire().fail(TimeoutError())
    until(lambda: other.state != "CLOSED", "it is open")
    until(hears(other, "tenant 899"), "it is heard")


# What others write and publish


def publish(client, content):
    return client.publish(CHANNEL, content)


def announcement(client, *, tenant="victim", wait="30000", key=REGION_KEY, secret=None, **changed):
    """Return an announcement of another process, as the script signs it."""
    seconds, micros = client.time()
    sent_at = changed.get("sent_at", str(seconds * 1000 + micros // 1000))
    parts = [key, tenant, changed.get("by", "f" * 16), changed.get("change", "w")]
    parts += [changed.get("kind", "r"), wait, changed.get("lease", "0")]
    line = "".join(f"{len(part.encode())}:{part}" for part in parts).encode()
    if secret is None:
        secret = client.hget(SECRET_KEY, "secret")
    signed = secret + f"{sent_at} t ".encode() + line + secret
    return f"t {sent_at} {hashlib.sha1(signed).hexdigest()} ".encode() + line


def ignores(one, client, content):
    """Whether a message changes nothing; the next genuine one shows that it was read."""
    publish(client, content)
    number = next(markers)
    publish(client, announcement(client, tenant=f"marker {number}"))
    until(hears(one, f"marker {number}"), "the next one is followed")
    return one.tenants.wait_of("victim") == 0


markers = itertools.count()


def test_an_announcement_that_is_not_signed_fresh_and_whole_is_ignored(make, client):
    one = make()
    assert not ignores(one, client, announcement(client))
    one.tenants.throttle("victim", 0)
    own = sharing_of(one)._protocol.client_id
    for content in (
        announcement(client, secret=b"5" * 32),
        announcement(client, secret=b""),
        announcement(client, sent_at=str(client.time()[0] * 1000 - 10_000)),
        announcement(client, sent_at=str(client.time()[0] * 1000 + 10_000)),
        announcement(client, key="{region-breaker}:1:elsewhere"),
        announcement(client, by=own),
        announcement(client, wait="3600001"),
        announcement(client, wait="x"),
        announcement(client, tenant=""),
        announcement(client, tenant="x" * 300),
        announcement(client).replace(b"victim", b"Victim"),
        announcement(client)[:-3],
        b"t 1",
        b"t " + b"x" * 10_000,
    ):
        assert ignores(one, client, content), content


def test_nothing_is_believed_before_the_secret_is_known():
    assert genuine([b"t 1 " + b"0" * 40 + b" x"], b"") == []


def test_a_flood_of_forged_announcements_changes_nothing(make, client):
    one, other = make(), make()
    forged = [announcement(client, tenant=f"forged {n}", secret=b"5" * 32) for n in range(2_000)]
    for _ in range(10):
        with client.pipeline(transaction=False) as pipeline:
            for content in forged:
                pipeline.publish(CHANNEL, content)
            pipeline.execute()
    refuse(one)
    until(hears(other), "it is heard")
    assert list(other.throttled_tenants) == ["acme"]


def test_a_list_of_any_size_is_removed_and_not_gone_through(make, client):
    def removed():
        return client.info("commandstats")["cmdstat_unlink"]["calls"]

    make()
    listed = f"{{region-breaker}}:throttled:{REGION}"
    client.zadd(listed, {f"tenant {n}": n for n in range(60_000)})
    before = removed()
    make()
    assert removed() == before + 1


def test_records_and_lists_of_others_are_of_no_interest(make, client):
    one = make(poll_interval=0.1)
    listed, now = "{region-breaker}:throttled:eu-west-1", client.time()[0] * 1000
    client.zadd(listed, {"x" * 2_000: now + 9_000, "far": now + 10**9, b"\xff": now + 9_000})
    client.zadd(listed, {"x" * 300: now + 9_000, "good": now + 9_000, "gone": now - 10**6})
    until(hears(one, "good"), "it is found")
    assert list(one.throttled_tenants) == ["good"]
    client.delete(listed)
    client.set(listed, "not a set")
    record = "{region-breaker}:throttle:eu-west-1:acme"
    for broken in (
        lambda: client.set(record, "x"),
        lambda: client.hset(record, mapping={"at": 1}),
        lambda: client.hset(record, mapping=fields(at=10**15)),
        lambda: client.hset(record, mapping=fields(at="x")),
        lambda: client.hset(record, mapping=fields(kind="x")),
        lambda: client.hset(record, mapping=fields(wait=9_999_999)),
        lambda: client.hset(record, mapping=fields(told=9_999_999)),
        lambda: client.hset(record, mapping=fields(own="x" * 100)),
        lambda: client.hset(record, mapping={**fields(), "further": 1}),
        lambda: client.hset(record, mapping={"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1}),
    ):
        client.delete(record)
        broken()
        refuse(one)
        until(lambda: client.type(record) == b"hash" and client.hlen(record) == 6, "it is mended")
        until(lambda: client.hget(record, "wait") == b"30000" or wait_in(client, record), "it is")
        until(lambda: not table(one)._unsent, "it is sent")


def fields(**changed):
    return {"at": 1, "wait": 1, "told": 1, "kind": "r", "own": "", "beat": 0} | changed


def wait_in(client, record):
    wait = client.hget(record, "wait")
    return wait is not None and wait.isdigit() and 29_000 < int(wait) <= 30_001


@pytest.mark.parametrize(
    "answer",
    [
        None, [], [1, 2, b"r", 0, 0], [1, 2, b"x", 0, 0, 1], [3, 2, b"r", 0, 0, 1],
        [1, 3_600_001, b"r", 0, 0, 1], [1, -1, b"r", 0, 0, 1], [1, b"2", b"r", 0, 0, 1],
        [1, 2, b"r", 0, 2, 1], [1, 2, b"r", 10**16, 0, 1], [1, 2, b"r", 0, 0, 1.0],
    ],
)  # fmt: skip
def test_a_reply_that_the_script_never_makes_is_refused(answer):
    with pytest.raises(InvalidReplyError):
        parse_throttle_reply(answer, 0.0)


@pytest.mark.parametrize(
    "answer", [None, [], [1], [[b"a"]], [["a", 1]], [[b"a", -1]], [[b"a", 1] * 201]]
)
def test_a_list_that_the_script_never_makes_is_refused(answer):
    with pytest.raises(InvalidReplyError):
        parse_found(answer, 1)


# Rights


@contextmanager
def user(client, store, *rights):
    client.execute_command(
        "ACL", "SETUSER", "breaker", "on", ">secret", "resetkeys", "resetchannels", "allchannels",
        "nocommands", "+@all", *rights,
    )  # fmt: skip
    yield f"redis://breaker:secret@127.0.0.1:{store.port}"
    client.execute_command("ACL", "DELUSER", "breaker")


def test_without_the_right_to_its_keys_circuits_are_shared_and_tenants_are_not(
    store, make, client, log
):
    narrow = [f"~{{region-breaker}}:{name}*" for name in ("1:", "canary:", "secret", "processes")]
    with user(client, store, *narrow) as url, registries() as make_registry:
        registry = make_registry(url, policy=QUICK, poll_interval=0.05)
        registry.expect_tenants()
        breaker = shared(registry)
        text = "throttled tenants are not shared: NOPERM"
        until(lambda: any(text in line for line in lines(log, "WARNING")), "it is logged")
        for _ in range(20):
            refuse(breaker)
        other = make(policy=QUICK)
        for _ in range(2):
            breaker.acquire().fail(TimeoutError())
        until(lambda: other.state != "CLOSED", "the circuits are shared")
        assert len([line for line in lines(log, "WARNING") if text in line]) == 1
        assert other.tenants.wait_of("acme") == 0
        assert breaker.tenants.wait_of("acme") > 0


def test_without_the_right_to_sorted_sets_announcements_are_enough(store, make, client):
    rights = ["~{region-breaker}:*", "-@sortedset"]
    with user(client, store, *rights) as url, registries() as make_registry:
        registry = make_registry(url, poll_interval=0.1)
        registry.expect_tenants()
        breaker = shared(registry)
        refuse(breaker, "first")
        record = "{region-breaker}:throttle:eu-west-1:first"
        until(lambda: client.exists(record), "it is announced, to nobody")
        other = make()
        refuse(breaker)
        until(hears(other), "it is heard")
        assert other.tenants.wait_of("first") == 0


def test_an_error_that_is_no_refusal_is_a_loss_of_the_store(make, monkeypatch):
    one = make()
    synchronizer = sharing_of(one)._synchronizer
    with pytest.raises(redis.exceptions.ReadOnlyError):
        synchronizer._throttles._on_refusal(redis.exceptions.ReadOnlyError("a replica"))


def test_a_command_that_cannot_be_sent_is_kept(make, server, tmp_path):
    own = Store(binaries()["valkey"], tmp_path)
    own.start()
    with registries() as make_registry:
        one, other = (make_registry(own.url, poll_interval=0.5) for _ in range(2))
        for registry in (one, other):
            registry.expect_tenants()
        breakers = [shared(one), shared(other)]
        own.kill()
        refuse(breakers[0], seconds=600)
        own.start()
        until(hears(breakers[1]), "it is heard when the store is back")
    own.kill()


# The script and the twin

COMMANDS = st.tuples(
    st.sampled_from([*ThrottleChange, "pass", "expire"]),
    st.integers(0, 1),
    st.sampled_from([60.0, 120.0]),
    st.booleans(),
)


class Pair:
    """One tenant on a server, and the same in the twin."""

    def __init__(self, client, number):
        self.client = client
        self.now = 0.0
        self.twin = TenantStore(lambda: self.now)
        self.protocols = [
            ThrottleProtocol(RecordProtocol(f"t{number}", f"{n:016x}", "host", 5.0, 1))
            for n in range(2)
        ]
        self.twin.processes = [SimpleNamespace(inbox=[]), SimpleNamespace(inbox=[])]
        self.key = self.protocols[0].records.throttle_key(REGION, "a")
        client.hset(f"{{t{number}}}:secret", mapping={"secret": "5" * 32, "size": "0"})
        self.pubsub = client.pubsub(ignore_subscribe_messages=True)
        self.pubsub.subscribe(self.protocols[0].records.channel)
        self.script = client.register_script(SCRIPT)

    def run(self, change, who, wait, is_hold):
        is_hold = is_hold and change is ThrottleChange.THROTTLE
        command = ThrottleCommand(change, "a", wait, is_hold)
        request = self.protocols[who].change(REGION, command, 10**14)
        real = parse_throttle_reply(
            self.script(keys=request.keys, args=request.arguments), 0.0
        ).view
        twin = self.twin.run(self.twin.processes[who], command)
        assert real.wait == pytest.approx(twin.wait, abs=5.0)
        assert real.lease_left == pytest.approx(twin.lease_left, abs=4.0)
        assert (real.lease_left > 0) == (twin.lease_left > 0)
        assert real.lease_is_mine == twin.lease_is_mine
        assert real.is_hold == twin.is_hold or real.wait == 0

    def pass_time(self):
        """Let the wait be over."""
        if self.client.exists(self.key):
            self.client.hset(self.key, "at", 0)
        for record in self.twin.records.values():
            record.until = record.told_until = self.now

    def expire(self):
        """Let the lease run out."""
        if self.client.exists(self.key):
            self.client.hset(self.key, "beat", 0)
        for record in self.twin.records.values():
            record.renewed_at = -1000.0

    def close(self):
        self.pubsub.close()

    def announced(self):
        """Return how many announcements there were, on either side."""
        self.client.publish(self.protocols[0].records.channel, "end")
        said = []
        while not said or said[-1] != b"end":
            message = self.pubsub.get_message(timeout=60)
            if message is not None:
                said.append(message["data"])
        assert len(genuine(said, b"5" * 32)) == len(set(said)) - 1
        return len(said) - 1, sum(len(process.inbox) for process in self.twin.processes)


pairs = itertools.count()


@given(steps=st.lists(COMMANDS, max_size=25))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_twin_does_the_same_as_the_script(client, steps):
    with closing(Pair(client, next(pairs))) as pair:
        take_steps(pair, steps)
        real, twin = pair.announced()
    assert real == twin


def take_steps(pair, steps):
    for what, who, wait, is_hold in steps:
        if what == "pass":
            pair.pass_time()
        elif what == "expire":
            pair.expire()
        else:
            pair.run(what, who, wait, is_hold)


def test_an_unknown_change_is_refused(client):
    with pytest.raises(redis.ResponseError, match="unknown change"):
        client.eval(SCRIPT, 3, "a", "b", "c", "x", "1" * 16, "5000", "d", "e", "f", "1", "r", "1")


def test_a_command_that_comes_too_late_only_reads(client):
    protocol = ThrottleProtocol(RecordProtocol("late", "a" * 16, "host", 5.0, 1))
    request = protocol.change(REGION, ThrottleCommand(ThrottleChange.THROTTLE, "a", 60.0), 1)
    reply = parse_throttle_reply(
        client.eval(SCRIPT, len(request.keys), *request.keys, *request.arguments), 0.0
    )
    assert reply.is_late
    assert reply.view.wait == 0
    assert client.exists(request.keys[0]) == 0
