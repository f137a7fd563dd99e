"""Circuits that are shared: real servers, real processes, and what becomes of both."""

import asyncio
import gc
import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
)
from resilience.integrations.opentelemetry import observe
from resilience.integrations.prometheus import CircuitCollector
from resilience.integrations.redis import RedisSharing, synchronizer, timing
from resilience.integrations.redis.address import Address
from resilience.integrations.redis.backoff import Backoff
from resilience.integrations.redis.connection import CommandConnection, Notifications
from resilience.integrations.redis.members import Members
from resilience.integrations.redis.notification import newest
from resilience.integrations.redis.protocol import (
    SCRIPT,
    InvalidReplyError,
    RecordProtocol,
    parse_poll,
    parse_replies,
    parse_reply,
)
from resilience.integrations.redis.sharing import _after_fork_in_child, _inherited
from resilience.integrations.redis.synchronizer import Synchronizer
from resilience.integrations.redis.timing import Timing
from resilience.integrations.status_page.state import PageState
from resilience.outcome import Outcome, Report
from resilience.shared_record import Change, Command
from tests.support import sharing_worker
from tests.support.chaos_proxy import ChaosProxy
from tests.support.liar import Impatient, Liar
from tests.support.needs import needs_store
from tests.support.sharing_worker import REGION
from tests.support.stores import SERVERS, free_port, serving, until

WORKER = Path(sharing_worker.__file__)
QUICK = {"failure_threshold": 2, "recovery_timeout": 0.5}


@pytest.fixture(scope="module", params=SERVERS)
def server(request, tmp_path_factory):
    needs_store(request.param)
    with serving(request.param, tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def store(server):
    """An empty store that several tests use, one after the other."""
    with server.client() as client:
        client.flushall()
    return server


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    with serving("valkey", tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def one_store(valkey):
    """The same, for what no two servers do differently."""
    with valkey.client() as client:
        client.flushall()
    return valkey


@pytest.fixture
def own_store(tmp_path):
    """A store of the test's own, to be mistreated."""
    with serving("valkey", tmp_path) as store:
        yield store


@pytest.fixture
def fleet():
    """Start processes of this very process: registries with a RedisSharing each."""
    registries = []

    def start(url, *, policy=None, **options):
        made = BreakerPolicy(**(QUICK if policy is None else policy))
        registry = CircuitBreakerRegistry(made, sharing=RedisSharing(url, **options))
        registries.append(registry)
        return registry.get(REGION)

    yield start
    for registry in registries:
        registry.close()


@pytest.fixture
def workers():
    """Start real processes."""
    started = []

    def start(url, count, **options):
        options = {"policy": QUICK, **options}
        new = [Worker(url, options | {"name": f"worker-{n}"}) for n in range(count)]
        started.extend(new)
        for worker in new:
            until(lambda worker=worker: worker.tell("seen")["shared"], "it shares")
        return new

    yield start
    for worker in started:
        worker.kill()


class Worker:
    def __init__(self, url, options):
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), url, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, *what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def state(self):
        return self.tell("seen")["state"]

    def events(self):
        return self.tell("seen")["events"]

    def last_change(self):
        """Wait for the event of the state it is in: listeners hear in a thread of their own."""
        until(lambda: [e[1] for e in self.events()[-1:]] == [self.state()], "the listeners heard")
        return self.events()[-1]

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()


def trip(breaker):
    for _ in range(breaker.policy.failure_threshold):
        breaker.acquire().fail(TimeoutError())


def shared(breaker):
    until(lambda: breaker.snapshot().shared, "it is shared")
    return breaker


def call(breaker):
    """Make a call that goes well; False: it was rejected."""
    try:
        breaker.acquire().succeed()
    except CircuitBreakerOpenError:
        return False
    return True


def probes_until_closed(breakers):
    """Call steadily everywhere until all are closed; gives how many calls came through."""
    probes = 0

    def steadily():
        nonlocal probes
        for breaker in breakers:
            if breaker.circuit.state.name != "CLOSED":
                probes += call(breaker)
        return all(breaker.state == "CLOSED" for breaker in breakers)

    until(steadily, "all are closed")
    return probes


def texts(log, level):
    return [record["message"] for record in log if record["level"].name == level]


# Several processes


@pytest.mark.parametrize("how", ["succeed", "answered"])
def test_one_trips_all_open_one_probes_all_close(store, workers, how):
    one, *others = workers(store.url, 4)
    one.tell("fail", 2)
    until(lambda: {w.state() for w in others} <= {"OPEN", "HALF_OPEN"}, "all are open")
    pid = one.tell("seen")["pid"]
    for other in others:
        until(other.events, "its listeners heard")
        old, new, reason, by = other.events()[0]
        assert (old, new, reason) == ("CLOSED", "OPEN", "TimeoutError")
        assert by.split("/")[1:] == [str(pid), "worker-0"]
    everybody = [one, *others]

    def steadily():
        for worker in everybody:
            worker.tell("call", how)
        return {w.state() for w in everybody} == {"CLOSED"}

    until(steadily, "all are closed")
    closed_by = [w.last_change()[2] for w in everybody]
    assert closed_by.count(f"3 consecutive {'successes' if how == 'succeed' else 'answers'}") == 1
    probes = [w.tell("seen")["probes"] for w in everybody]
    assert sum(probes) == 3  # by one process, unless it comes too late for its own lease


def test_a_killed_holder_loses_the_lease(one_store, workers):
    one, holder = workers(one_store.url, 2, probe_lease=1.0, socket_timeout=0.25)
    one.tell("fail", 2)
    until(lambda: holder.tell("hold") == "called" and holder.state() == "HALF_OPEN", "it probes")
    holder.signal(signal.SIGKILL)
    until(lambda: one.tell("call") == "called", "the other probes")


def test_a_stopped_holder_closes_and_opens_nothing_when_it_wakes_up(one_store, workers):
    one, holder = workers(one_store.url, 2, probe_lease=1.0, socket_timeout=0.25)
    one.tell("fail", 2)
    until(lambda: holder.tell("hold") == "called" and holder.state() == "HALF_OPEN", "it probes")
    holder.signal(signal.SIGSTOP)
    until(lambda: one.tell("call") == "called", "the other probes")
    holder.signal(signal.SIGCONT)
    holder.tell("settle", "fail")
    until(lambda: one.tell("call") == "called" and one.state() == "CLOSED", "the fleet closes")
    until(lambda: holder.state() == "CLOSED", "it follows")


def test_the_child_of_a_fork_shares_from_its_first_call_and_leaves_the_parents_synchronizer_alone(
    one_store, workers
):
    policy = {"failure_threshold": 2, "recovery_timeout": 60.0}
    parent, other = workers(one_store.url, 2, policy=policy)
    assert parent.tell("fork") == {"shared_at_first": False}
    other.tell("fail", 2)
    child = parent.tell("child_says")
    assert child["events"][0][1] == "OPEN"
    until(lambda: parent.state() == "OPEN", "the parent hears it too")
    other.tell("reset")
    until(lambda: parent.state() == "CLOSED", "the parent's synchronizer works")
    parent.tell("fail", 2)
    until(lambda: other.state() == "OPEN", "the parent is heard")


def test_what_becomes_another_process_is_a_member_of_its_own(one_store, fleet):
    one, other = (shared(fleet(one_store.url)) for _ in range(2))
    sharing = sharing_of(one)
    before = repr(sharing)
    inherited = [synchronizer_of(one), synchronizer_of(other)]
    _after_fork_in_child()  # what a fork calls in the child
    assert _inherited[-2:] in (inherited, inherited[::-1])
    for of_the_parent in inherited:
        of_the_parent.stop(timeout=10)
    assert one.snapshot().shared is False
    until(lambda: call(one) and one.snapshot().shared, "its first call lets it share")
    until(lambda: call(other) and other.snapshot().shared, "and so does the other's")
    assert sharing._synchronizer not in inherited
    assert one.closed is not None
    trip(one)
    until(lambda: other.state != "CLOSED", "it is heard")
    assert repr(sharing) == before
    del _inherited[-2:]


def test_a_fork_before_the_first_breaker_and_after_the_end_changes_nothing(one_store):
    registry = CircuitBreakerRegistry(sharing=RedisSharing(one_store.url))
    _after_fork_in_child()
    breaker = shared(registry.get(REGION))
    registry.close()
    _after_fork_in_child()
    assert call(breaker)
    assert breaker.snapshot().shared is False
    assert breaker.closed is not None
    assert synchronizer_of(breaker) is None


def test_a_quorum_is_of_processes(one_store, workers):
    policy = {"failure_threshold": 2, "recovery_timeout": 60.0}
    one, two, three = workers(one_store.url, 3, quorum=2, policy=policy)
    one.tell("fail", 2)
    two.tell("call")
    assert three.state() == "CLOSED"
    two.tell("fail", 2)
    until(lambda: three.state() == "OPEN", "the third follows two")


# What it costs


def counted(store):
    with store.client() as client:
        stats = client.info("commandstats")
    return {
        name: stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "ping")
    }


def test_calls_and_rejections_cost_the_store_nothing(store, fleet):
    pings = counted(store)["ping"]
    breaker = shared(fleet(store.url, poll_interval=600.0, policy={"recovery_timeout": 600.0}))
    until(lambda: counted(store)["ping"] == pings + 1, "it has polled")

    @breaker
    def fine():
        return 1

    before = counted(store)
    for _ in range(10_000):
        fine()
    assert counted(store) == before
    trip(breaker)
    until(lambda: counted(store)["evalsha"] == before["evalsha"] + 1, "the trip was said")
    before = counted(store)
    for _ in range(10_000):
        with pytest.raises(CircuitBreakerOpenError):
            fine()
    breaker.reset()
    with store.client() as client:
        until(lambda: client.hget(f"{{region-breaker}}:1:{REGION}", "s") == b"C", "it is closed")
    # A command that was sent late would have come before the reset.
    assert counted(store) == before | {"evalsha": before["evalsha"] + 1}


def test_a_poll_reads_all_regions_in_one_command(one_store):
    regions = [f"region-{n}" for n in range(18)]
    registry = CircuitBreakerRegistry(sharing=RedisSharing(one_store.url, poll_interval=0.1))
    for region in regions:
        shared(registry.get(region))
    before = counted(one_store)
    until(lambda: counted(one_store)["ping"] >= before["ping"] + 20, "they poll")
    after = counted(one_store)
    assert abs((after["evalsha"] - before["evalsha"]) - (after["ping"] - before["ping"])) <= 1
    registry.close()


# The store comes and goes


@pytest.fixture
def attempts(monkeypatch):
    """The attempts to connect."""
    attempts = []
    locate = Address.locate

    def count_and_locate(address):
        attempts.append(address)
        return locate(address)

    monkeypatch.setattr(Address, "locate", count_and_locate)
    return attempts


def test_without_a_store_everything_goes_on_and_it_is_logged_once(fleet, log, attempts):
    port = free_port()
    breaker = fleet(f"redis://127.0.0.1:{port}")
    until(lambda: texts(log, "WARNING"), "it is told")
    assert breaker.snapshot().shared is False
    trip(breaker)
    assert breaker.state == "OPEN"
    until(lambda: call(breaker), "it probes alone")
    until(lambda: len(attempts) > 4, "it has tried again")
    lost = [text for text in texts(log, "WARNING") if "sharing" in text]
    assert len(lost) == 1
    assert lost[0].endswith(f"go on alone: 127.0.0.1:{port}: ECONNREFUSED: Connection refused")


@contextmanager
def mistreated(store, how):
    """Take the store away in some way, and give it back."""
    with store.client() as client:
        if how == "killed":
            store.kill()
        elif how == "paused":
            store.pause()
        elif how == "full":
            client.config_set("maxmemory", 1)
        elif how == "read-only":
            client.replicaof("127.0.0.1", free_port())
        elif how == "another password":
            client.config_set("requirepass", "secret")
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(_type=kind, skipme=True)
    yield
    if how == "killed":
        store.start()
    elif how == "paused":
        store.resume()
    else:
        with store.client(password="secret" if "password" in how else None) as client:
            client.config_set("maxmemory", 0)
            client.replicaof("NO", "ONE")
            client.config_set("requirepass", "")


@pytest.mark.parametrize("how", ["killed", "paused", "full", "read-only", "another password"])
def test_a_store_that_fails_is_noticed_once_and_when_it_is_back(own_store, fleet, log, how):
    options = {"poll_interval": 0.2, "socket_timeout": 1.0}
    one, other = (shared(fleet(own_store.url, **options)) for _ in range(2))
    with mistreated(own_store, how):
        until(lambda: not (one.snapshot().shared or other.snapshot().shared), "it is noticed")
        started = time.monotonic()
        trip(one)
        with pytest.raises(CircuitBreakerOpenError):
            one.acquire()
        assert time.monotonic() - started < 5, "no call waits for the store"
        assert other.state == "CLOSED"
        one.reset()
    until(lambda: one.snapshot().shared and other.snapshot().shared, "it is back")
    trip(one)
    until(lambda: other.state != "CLOSED", "what one knows the other hears")
    mine = [
        text for level in ("WARNING", "INFO") for text in texts(log, level) if "sharing" in text
    ]
    assert len([text for text in mine if "lost" in text]) == 2
    assert mine.count("Circuit breaker sharing is back") == 2
    assert not [text for text in mine if "secret" in text]


def test_an_open_circuit_stays_open_across_an_empty_restart(own_store, fleet):
    policy = {"failure_threshold": 2, "recovery_timeout": 600.0}
    one, other = (shared(fleet(own_store.url, policy=policy)) for _ in range(2))
    trip(one)
    until(lambda: other.state == "OPEN", "it is open")
    own_store.kill()
    until(lambda: not other.snapshot().shared, "it is noticed")
    own_store.start()
    third = shared(fleet(own_store.url, policy=policy))
    until(lambda: third.state == "OPEN", "what they know is in the store again")
    assert (one.state, other.state) == ("OPEN", "OPEN")


def test_a_new_process_is_heard_by_those_that_know_the_versions_of_a_clock_that_was_ahead(
    one_store, workers
):
    options = {"policy": QUICK | {"recovery_timeout": 600.0}, "poll_interval": 0.2}
    old = workers(one_store.url, 2, **options)
    ahead = protocol().change("", Command(Change.FORCE, 0, 0.0, 0, "", None), 1.0, 10**14)
    with one_store.client() as client:
        seconds, _ = client.time()
        ahead.arguments[3:5] = ["{region-breaker}:hints", (seconds + 3_600) * 1000]
        keys = [f"{{region-breaker}}:1:{REGION}", "{region-breaker}:secret"]
        client.eval(SCRIPT, 2, *keys, *ahead.arguments)
        until(lambda: {worker.state() for worker in old} == {"OPEN"}, "they follow it")
        old[0].tell("reset")
        until(lambda: {worker.state() for worker in old} == {"CLOSED"}, "it is closed again")
        client.flushall()
    (new,) = workers(one_store.url, 1, **options)
    new.tell("fail", 2)
    until(lambda: {worker.state() for worker in old} == {"OPEN"}, "they follow the new one")


def test_a_region_that_is_new_here_is_read_immediately(one_store):
    registries = [
        CircuitBreakerRegistry(sharing=RedisSharing(one_store.url, poll_interval=600.0))
        for _ in range(2)
    ]
    for registry in registries:
        shared(registry.get("another region"))
    shared(registries[0].get(REGION)).force_open("maintenance")
    with one_store.client() as client:
        until(lambda: client.exists("{region-breaker}:1:eu-west-1"), "it is said")
    assert shared(registries[1].get(REGION)).state == "OPEN"
    for registry in registries:
        registry.close()


def test_a_flushed_script_is_sent_again(store, fleet):
    one, other = (shared(fleet(store.url)) for _ in range(2))
    with store.client() as client:
        client.script_flush()
    trip(one)
    until(lambda: other.state != "CLOSED", "the trip is heard")


def test_a_trip_refused_for_the_stores_clock_is_sent_again(one_store, fleet):
    one, other = (shared(fleet(one_store.url)) for _ in range(2))
    synchronizer_of(one)._clock.offset -= 100.0
    trip(one)
    until(lambda: other.state != "CLOSED", "the trip is heard")


def test_a_command_that_came_too_late_twice_is_sent_again_later(one_store, fleet):
    one, other = (shared(fleet(one_store.url, poll_interval=0.1)) for _ in range(2))
    late = synchronizer_of(one)
    timing, late._timing = late._timing, Timing(0.1, -10.0)
    trip(one)
    polls = counted(one_store)["ping"]
    until(lambda: counted(one_store)["ping"] > polls + 4, "they poll")
    assert other.state == "CLOSED"
    one.force_open("so that it does not recover meanwhile")
    late._timing = timing
    until(lambda: other.state == "OPEN", "it is heard")


def test_a_malformed_notification_is_ignored(one_store, fleet):
    one, other = (shared(fleet(one_store.url)) for _ in range(2))
    with one_store.client() as client:
        for message in ("", "?", "1", "9" * 99 + " x", f"{10**14} no-such-key"):
            client.publish("{region-breaker}:hints", message)
    trip(one)
    until(lambda: other.state != "CLOSED", "the trip is heard")


@pytest.mark.parametrize("answer", [b"+OK\r\n", b":1\r\n", b"*-1\r\n", b"-ERR no\r\n", b"?\r\n"])
def test_a_server_that_is_not_a_store_counts_as_no_store(fleet, log, attempts, answer):
    liar = Liar(answer)
    breaker = fleet(liar.url)
    until(lambda: texts(log, "WARNING"), "it is told")
    until(lambda: len(attempts) > 4, "it has tried again")
    assert len([text for text in texts(log, "WARNING") if "sharing is lost" in text]) == 1
    assert breaker.snapshot().shared is False
    assert call(breaker)
    liar.close()


def test_a_subscription_that_is_refused_leaves_no_connection(monkeypatch):
    liar = Liar(b"-NOPERM this user has no permissions\r\n")
    server = Address(liar.url, 0.5).locate()
    connection = server.connect()
    monkeypatch.setattr(type(server), "connect", lambda *_: connection)
    with pytest.raises(redis.ResponseError):
        Notifications(server, "channel")
    assert connection.fileno() == -1
    liar.close()


def test_a_subscription_that_answers_no_ping_is_dead():
    liar = Liar(b"*3\r\n$9\r\nsubscribe\r\n$7\r\nchannel\r\n:1\r\n", times=3)
    notifications = Notifications(Address(liar.url, 0.5).locate(), "channel")
    assert notifications.read() == {}
    with pytest.raises(redis.ConnectionError):
        for _ in range(5):
            notifications.ping()
    notifications.close()
    with pytest.raises(redis.ConnectionError, match="not connected"):
        notifications.read()
    liar.close()


def test_an_answer_from_before_a_pause_is_asked_for_again(monkeypatch, clock):
    class Commands:
        """Answers the first time after a pause of the process."""

        def __init__(self):
            self.requests = []

        def run(self, request):
            self.requests.append(request)
            clock.advance(3.0 if len(self.requests) == 1 else 0.25)
            return f"answer {len(self.requests)}"

    monkeypatch.setattr(synchronizer, "time", SimpleNamespace(monotonic=clock))
    sharing = RedisSharing("redis://localhost")
    one = Synchronizer(sharing._address, protocol(), Members(), sharing._timing)
    request = protocol().read(["key"])
    commands = Commands()
    assert one._run(commands, request) == ("answer 2", 0.25)
    assert commands.requests == [request, request]
    one._wakeup.close()


def synchronizer_of(breaker):
    return sharing_of(breaker)._synchronizer


def sharing_of(breaker):
    return breaker.circuit._notify.func.__self__


def test_a_malformed_record_is_logged_once_and_repaired(store, fleet, log):
    options = {"poll_interval": 0.1, "policy": QUICK | {"recovery_timeout": 600.0}}
    one, other = (shared(fleet(store.url, **options)) for _ in range(2))
    trip(one)
    until(lambda: other.state == "OPEN", "it is open")
    with store.client() as client:
        (key,) = [key for key in client.scan_iter() if REGION in key.decode()]
        version = int(client.hget(key, "v"))
        client.hset(key, "at", 10**14)
        until(lambda: int(client.hget(key, "v")) > version, "it is repaired")
    warnings = [text for text in texts(log, "WARNING") if "malformed record" in text]
    assert warnings[0] == (
        f"Circuit breaker found a malformed record of region {REGION} in the store, "
        "and treats it as absent"
    )
    assert len(warnings) <= 2, "one of each process"
    assert (one.state, other.state) == ("OPEN", "OPEN")


def test_a_malformed_record_that_nobody_repairs_is_logged_once(one_store, fleet, log):
    one = shared(fleet(one_store.url, poll_interval=0.1))
    with one_store.client() as client:
        client.set("{region-breaker}:1:eu-west-1", "?")
    until(lambda: texts(log, "WARNING"), "it is told")
    polls = counted(one_store)["ping"]
    until(lambda: counted(one_store)["ping"] > polls + 4, "it polls on")
    assert len(texts(log, "WARNING")) == 1
    assert call(one)


# Connections that end, and rights that are withdrawn


def clients(store, kind):
    """Return the ids of the connections of a kind that have a name: those of the sharing."""
    with store.client() as client:
        return {int(one["id"]) for one in client.client_list(_type=kind) if one["name"]}


def sharing_lines(log):
    lines = [*texts(log, "WARNING"), *texts(log, "INFO")]
    return [text for text in lines if "sharing" in text]


def test_a_command_connection_that_is_dropped_is_made_again_before_anything_happens(
    store, fleet, log
):
    one, other = (shared(fleet(store.url, poll_interval=600.0)) for _ in range(2))
    before = clients(store, "normal")
    with store.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    until(lambda: len(clients(store, "normal") - before) == 2, "both have connected again")
    assert one.snapshot().shared
    one.force_open("maintenance")
    until(lambda: other.state == "OPEN", "it is heard")
    assert sharing_lines(log) == []


def test_a_command_that_finds_its_connection_dropped_is_sent_on_a_new_one(one_store):
    commands = CommandConnection(Address(one_store.url, 60.0).locate())
    request = protocol().read(["key"])
    assert len(commands.run(request)) == 1
    with one_store.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert len(commands.run(request)) == 1
    commands.close()


def test_a_store_that_ends_idle_connections_is_not_lost(own_store, fleet, log):
    with own_store.client() as client:
        client.config_set("timeout", 1)
    one, other = (shared(fleet(own_store.url, poll_interval=600.0)) for _ in range(2))
    seen = set()

    def connected_again():
        seen.update(clients(own_store, "normal"))
        return len(seen) >= 6

    until(connected_again, "each has been dropped twice")
    one.force_open("maintenance")
    until(lambda: other.state == "OPEN", "it is heard")
    assert sharing_lines(log) == []


def test_a_connection_that_ends_as_soon_as_it_is_made_is_a_loss():
    impatient = Impatient(b"", times=0)
    commands = CommandConnection(Address(impatient.url, 5.0).locate())
    with pytest.raises(redis.ConnectionError):
        commands.run(protocol().read(["key"]))
    commands.close()
    impatient.close()


def test_a_store_that_speaks_without_being_asked_is_not_a_store():
    liar = Liar(b"+OK\r\n+OK\r\n", times=1)  # two answers, when the connection is named
    commands = CommandConnection(Address(liar.url, 5.0).locate(), "a-name")
    with pytest.raises(InvalidReplyError):
        until(commands.check, "it says something")
    commands.close()
    liar.close()


@pytest.mark.parametrize("right", ["hset", "hmget", "publish", "evalsha", "@write"])
def test_a_right_that_is_withdrawn_is_a_loss_which_is_logged_once(
    own_store, fleet, log, attempts, right
):
    with own_store.client() as client:
        client.execute_command("ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all")
        url = f"redis://worker:secret@127.0.0.1:{own_store.port}"
        one, other = (shared(fleet(url, poll_interval=0.1)) for _ in range(2))
        client.execute_command("ACL", "SETUSER", "worker", f"-{right}")
        until(lambda: not (one.snapshot().shared or other.snapshot().shared), "it is noticed")
        trip(one)
        before = len(attempts)
        until(lambda: len(attempts) > before + 8, "they have tried again")
        assert len(sharing_lines(log)) == 2, "one of each process"
        assert not one.snapshot().shared
        assert other.state == "CLOSED"
        client.execute_command("ACL", "SETUSER", "worker", f"+{right}")
    one.force_open("maintenance")
    until(lambda: other.state == "OPEN", "they share again")
    until(lambda: len(sharing_lines(log)) == 4, "one more of each process")


def test_a_subscription_without_the_right_to_ping_lives(own_store, fleet, log):
    with own_store.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all", "-ping"
        )
    url = f"redis://worker:secret@127.0.0.1:{own_store.port}"
    one, other = (shared(fleet(url, poll_interval=0.1)) for _ in range(2))
    before = counted(own_store)["evalsha"]
    until(lambda: counted(own_store)["evalsha"] > before + 10, "they poll")
    one.force_open("maintenance")
    until(lambda: other.state == "OPEN", "it is heard")
    assert sharing_lines(log) == []


def test_a_store_that_is_lost_again_and_again_is_logged_as_lost_until_it_is_stable(
    own_store, fleet, log
):
    breaker = fleet(own_store.url, poll_interval=0.5)
    for _ in range(4):
        shared(breaker)
        with own_store.client() as client:
            client.client_kill_filter(_type="pubsub")
        until(lambda: not breaker.snapshot().shared, "it is lost")
    lines = [
        re.sub(":.*", "", text.removeprefix("Circuit breaker ")) for text in sharing_lines(log)
    ]
    lost = "sharing is lost, circuits go on alone"
    assert sorted(lines) == sorted([lost, "sharing is back", lost])
    until(lambda: len(sharing_lines(log)) == 4, "it is back")
    assert texts(log, "INFO").count("Circuit breaker sharing is back") == 2


def test_the_wait_before_the_next_attempt_grows_up_to_the_interval_of_the_polls():
    refused, unreachable = redis.ResponseError("NOPERM"), redis.ConnectionError()
    for error, longest in (
        (refused, 5.0),
        (redis.AuthenticationError(), 5.0),
        (unreachable, 1.5),
        (redis.TimeoutError(), 1.5),
        (OSError(), 1.5),
    ):
        backoff = Backoff(5.0)
        waits = [backoff.next_wait(error) for _ in range(50)]
        assert 0.05 <= waits[0] <= 0.7
        assert all(longest / 2 <= wait <= longest for wait in waits[5:])
        backoff.reset()
        assert backoff.next_wait(error) <= 0.7
    assert Backoff(0.01).next_wait(refused) <= 0.7


def test_a_key_of_any_size_is_logged_once_and_does_not_block_the_store(own_store, fleet, log):
    with own_store.client() as client:
        for first in range(0, 500_000, 50_000):
            fields = {f"field {n}": n for n in range(first, first + 50_000)}
            client.hset("{region-breaker}:1:eu-west-1", mapping=fields)
        client.config_set("slowlog-log-slower-than", 100_000)  # microseconds
        client.slowlog_reset()
        breaker = shared(fleet(own_store.url, poll_interval=0.1))
        polls = counted(own_store)["ping"]
        until(lambda: counted(own_store)["ping"] > polls + 4, "it polls on")
        assert [entry["command"] for entry in client.slowlog_get()] == []
    assert len([text for text in texts(log, "WARNING") if "malformed record" in text]) == 1
    assert breaker.snapshot().shared


def test_a_time_out_that_is_longer_than_answers_are_believed_moves_that_limit(
    one_store, fleet, monkeypatch
):
    monkeypatch.setattr(timing, "_STALE_AFTER", 0.01)
    proxy = ChaosProxy(one_store.port)
    proxy.delay = 0.02
    one, other = shared(fleet(proxy.url)), shared(fleet(one_store.url))
    trip(one)
    until(lambda: other.state != "CLOSED", "the trip is heard")
    sharing_of(one).close()
    proxy.close()


def test_answers_that_always_come_too_late_are_a_time_out(monkeypatch, clock):
    monkeypatch.setattr(synchronizer, "time", SimpleNamespace(monotonic=clock))
    sharing = RedisSharing("redis://localhost")
    one = Synchronizer(sharing._address, protocol(), Members(), sharing._timing)
    commands = SimpleNamespace(run=lambda _: clock.advance(60.0))
    with pytest.raises(redis.TimeoutError, match="too long"):
        one._run(commands, protocol().read(["key"]))
    one._wakeup.close()


@contextmanager
def flood_of_notifications(store):
    """Publish faster than anybody reads, mostly about records that nobody has.

    What the subscribers have not read yet waits in the store, which drops them when that is too
    much. A slow machine reads slowly: the flood rises only as high as `most`, and stays there.
    """
    ended = threading.Event()
    most = 4_000_000
    contents = [f"{n} {{region-breaker}}:1:{n % 100 or REGION}" for n in range(1_500)]
    channel = "{region-breaker}:hints"
    commands = "".join(
        f"*3\r\n$7\r\nPUBLISH\r\n${len(channel)}\r\n{channel}\r\n${len(one)}\r\n{one}\r\n"
        for one in contents
    ).encode()

    def publish():
        with (
            store.client() as client,
            socket.create_connection(("127.0.0.1", store.port)) as connection,
        ):
            while not ended.is_set():
                if max(int(one["omem"]) for one in client.client_list(_type="pubsub")) < most:
                    connection.sendall(commands)
                    answered = 0
                    while answered < len(contents):
                        answered += connection.recv(65536).count(b"\n")
                ended.wait(0.005)

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)


def test_a_flood_of_notifications_keeps_nobody_from_anything(one_store, fleet, log):
    one, other = (shared(fleet(one_store.url, poll_interval=600.0)) for _ in range(2))
    subscriptions = clients(one_store, "pubsub")
    with flood_of_notifications(one_store):
        for _ in range(5):
            one.force_open("maintenance")
            until(lambda: other.state == "OPEN", "it is heard")
            other.reset()
            until(lambda: one.state == "CLOSED", "it is heard")
    assert clients(one_store, "pubsub") == subscriptions, "the store has dropped nobody"
    assert sharing_lines(log) == []


def test_more_notifications_than_are_read_in_a_row_are_all_heard(one_store, fleet, monkeypatch):
    # So that two are more than that.
    monkeypatch.setattr("resilience.integrations.redis.connection._TIMES_IN_A_ROW", 1)
    one, other = (shared(fleet(one_store.url, poll_interval=600.0)) for _ in range(2))
    one.force_open("maintenance")
    until(lambda: other.state == "OPEN", "it is heard")
    one.reset()
    until(lambda: other.state == "CLOSED", "it is heard")


def test_a_notification_that_was_signed_spares_the_read(one_store, fleet):
    one, other = (shared(fleet(one_store.url, poll_interval=600.0)) for _ in range(2))
    before = counted(one_store)["evalsha"]
    one.force_open("maintenance")
    until(lambda: other.state == "OPEN", "it is heard")
    one.reset()
    until(lambda: other.state == "CLOSED", "it is heard")
    assert counted(one_store)["evalsha"] == before + 2


def calls_of(work):
    """Count the functions, in Python and in C, that run meanwhile."""
    count = 0

    def note(_frame, event, _function):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("kind", ["signed", "plain", "about another region"])
def test_a_notification_costs_the_same_however_many_regions_there_are(kind):
    costs = []
    for regions in (18, 2_000):
        sharing = RedisSharing("redis://127.0.0.1:1")
        registry = CircuitBreakerRegistry(max_regions=3_000, sharing=sharing)
        breakers = [registry.get(f"region-{number}") for number in range(regions)]
        sharing.close()
        one = Synchronizer(sharing._address, sharing._protocol, sharing._members, sharing._timing)
        one._secret = b"5" * 32
        breaker = breakers[regions // 2]
        breaker.circuit.shared = True
        key = sharing._protocol.key("?" if "another" in kind else breaker.region)
        now = int((time.monotonic() + one._clock.offset) * 1000)
        fields = ("1", str(now), "O", str(now), "", "0", "0", "b" * 16, "host", "E 503", "")
        line = "".join(f"{len(field)}:{field}" for field in fields)
        body = b"5" * 32 + f"{now} {key} {line}".encode() + b"5" * 32
        content = f"{now} {key}"
        if kind != "plain":
            content += f"\n{now} {hashlib.sha1(body).hexdigest()} {line}"
        announced = newest([content.encode()])
        absent = [1, 0, b"", 0, 0, 0, 0, 0, b"", b"", 0, 0, now]
        commands = SimpleNamespace(run=lambda _, absent=absent: [absent])
        idle = SimpleNamespace(read=dict)

        def follow(one=one, commands=commands, announced=announced, idle=idle):
            one._follow(commands, announced)
            one._send_commands(commands, idle)
            one._next_command_in()

        costs.append(calls_of(follow))
        assert (breaker.state == "OPEN") == (kind == "signed")
        one._wakeup.close()
    assert costs[1] < costs[0] + 18


@pytest.mark.parametrize("kind", ["late", "early", "of another database"])
def test_a_signed_notification_that_is_not_of_now_costs_a_read(one_store, fleet, kind):
    one, other = (shared(fleet(one_store.url, poll_interval=600.0)) for _ in range(2))
    if kind == "of another database":
        synchronizer_of(other)._secret = b"0" * 32
    else:
        synchronizer_of(other)._clock.offset += 10.0 if kind == "late" else -10.0
    before = counted(one_store)["evalsha"]
    one.force_open("maintenance")
    until(lambda: other.state == "OPEN", "it is heard")
    assert counted(one_store)["evalsha"] == before + 2


def test_fleets_in_two_databases_with_one_prefix_do_not_follow_each_other(own_store, fleet):
    options = {"poll_interval": 0.1}
    production = shared(fleet(f"{own_store.url}/0", **options))
    staging, more = (shared(fleet(f"{own_store.url}/1", **options)) for _ in range(2))
    staging.force_open("maintenance")
    until(lambda: more.state == "OPEN", "it is heard there")
    polls = counted(own_store)["ping"]
    until(lambda: counted(own_store)["ping"] > polls + 6, "all poll")
    assert production.state == "CLOSED"


# Waiting


async def test_a_task_that_only_waits_finds_the_region_back(store, fleet):
    one, other = (shared(fleet(store.url)) for _ in range(2))
    trip(one)
    until(lambda: other.state != "CLOSED", "it is open")

    async def work(breaker):
        while breaker.state != "CLOSED":
            assert await breaker.wait_until_ready(timeout=20)
            call(breaker)

    await asyncio.gather(work(one), work(other))


async def test_closing_the_registry_gives_the_lease_back_and_wakes_waiting_tasks(store, fleet):
    options = {"policy": QUICK, "probe_lease": 40.0}
    one, other = (shared(fleet(store.url, **options)) for _ in range(2))
    trip(one)
    until(lambda: not call(other) and other.state == "HALF_OPEN", "it is due")
    until(lambda: call(other), "it has the lease")
    waiting = asyncio.create_task(one.wait_until_ready(timeout=20))
    await asyncio.sleep(0)
    other.circuit.record(other.acquire().ticket, Report(Outcome.FAILURE), 0.0)
    sharing_of(other).close()
    assert await waiting


def test_a_listener_may_close_the_registry(one_store):
    registries = [
        CircuitBreakerRegistry(BreakerPolicy(**QUICK), sharing=RedisSharing(one_store.url))
        for _ in range(2)
    ]
    one, other = (shared(registry.get(REGION)) for registry in registries)
    done = threading.Event()

    def close(_):
        registries[1].close()
        done.set()

    registries[1].listen(close)
    trip(one)
    assert done.wait(10)
    until(lambda: other.snapshot().shared is False, "it goes on alone")
    registries[0].close()


def test_a_listener_that_exits_ends_neither_the_process_nor_the_sharing(one_store, fleet, log):
    one, other = (shared(fleet(one_store.url)) for _ in range(2))
    stop = other.listen(lambda _: sys.exit(1))
    one.force_open("maintenance")
    until(lambda: other.state == "OPEN", "it is heard")
    until(lambda: [text for text in texts(log, "ERROR") if "raised SystemExit" in text], "told")
    stop()
    one.reset()
    until(lambda: other.state == "CLOSED", "it is heard")


@pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit])
def test_a_clock_that_fails_for_a_moment_does_not_end_the_sharing(one_store, log, fleet, kind):
    broken = threading.Event()

    def clock():
        if broken.is_set():
            raise kind
        return time.monotonic()

    sharing = RedisSharing(one_store.url, poll_interval=0.1)
    registry = CircuitBreakerRegistry(BreakerPolicy(**QUICK), clock=clock, sharing=sharing)
    breaker = shared(registry.get(REGION))
    broken.set()
    until(lambda: breaker.circuit.shared is False, "it goes on alone")
    (lost,) = [text for text in texts(log, "WARNING") if "sharing is lost" in text]
    assert f"raised {kind.__name__}" in lost
    broken.clear()
    shared(breaker)
    trip(shared(fleet(one_store.url)))
    until(lambda: breaker.state != "CLOSED", "it follows")
    registry.close()


async def test_a_closed_registry_goes_on_alone(one_store):
    registry = CircuitBreakerRegistry(BreakerPolicy(**QUICK), sharing=RedisSharing(one_store.url))
    breaker = shared(registry.get(REGION))
    await registry.aclose()
    await registry.aclose()
    assert breaker.snapshot().shared is False
    trip(breaker)
    assert registry.get("another").snapshot().shared is False
    until(lambda: call(breaker), "it probes alone")


# How it is set up


def test_a_registry_without_sharing_has_nothing_to_close():
    registry = CircuitBreakerRegistry()
    registry.close()
    assert registry.get("eu-west-1").snapshot().shared is None


def test_a_second_registry_is_refused_when_it_is_made(one_store):
    sharing = RedisSharing(one_store.url)
    first, other = CircuitBreakerRegistry(sharing=sharing), CircuitBreakerRegistry()
    with pytest.raises(ValueError, match="each registry needs its own RedisSharing"):
        CircuitBreakerRegistry(sharing=sharing)
    with pytest.raises(ValueError, match="each registry needs its own RedisSharing"):
        other.configure(sharing=sharing)
    first.configure(max_regions=5, sharing=sharing)
    assert shared(first.get(REGION))
    assert other.get(REGION).snapshot().shared is None
    first.close()


def test_a_registry_that_is_gone_leaves_its_sharing_to_another_one():
    sharing = RedisSharing("redis://localhost")
    gone = CircuitBreakerRegistry(sharing=sharing)
    del gone
    gc.collect()
    CircuitBreakerRegistry(sharing=sharing)


def test_an_evicted_breaker_that_somebody_holds_is_found_again_and_stays_shared(one_store):
    registries = [
        CircuitBreakerRegistry(max_regions=2, sharing=RedisSharing(one_store.url)) for _ in range(2)
    ]
    one, other = registries
    held = one.get("a")
    one.get("b")
    one.get("c")
    assert one.get("a") is held
    shared(held)
    shared(other.get("a")).force_open("maintenance")
    until(lambda: held.state == "OPEN", "it follows")
    for registry in registries:
        registry.close()


def test_a_region_whose_breaker_was_collected_is_shared_again(one_store):
    one = CircuitBreakerRegistry(max_regions=1, sharing=RedisSharing(one_store.url))
    other = CircuitBreakerRegistry(sharing=RedisSharing(one_store.url))
    collected = weakref.ref(shared(one.get(REGION)))
    shared(one.get("another"))
    until(lambda: gc.collect() is not None and collected() is None, "it is collected")
    again = shared(one.get(REGION))
    shared(other.get(REGION)).force_open("maintenance")
    until(lambda: again.state == "OPEN", "it follows")
    for registry in (one, other):
        registry.close()


def test_a_breaker_with_a_circuit_of_its_own_cannot_join():
    with pytest.raises(TypeError, match="a circuit that no RedisSharing has made"):
        RedisSharing("redis://localhost").join(CircuitBreaker(REGION))


@pytest.mark.parametrize("kind", ["sync client", "async client", "unix socket"])
def test_the_address_may_come_from_a_client(own_store, tmp_path, fleet, kind):
    if kind == "unix socket":
        own_store.kill()
        own_store.start("--unixsocket", str(tmp_path / "socket"))
        where = f"unix://{tmp_path}/socket"
    else:
        make = redis.Redis if kind == "sync client" else redis.asyncio.Redis
        where = make(port=own_store.port)
    one, other = (shared(fleet(where)) for _ in range(2))
    trip(one)
    until(lambda: other.state != "CLOSED", "the trip is heard")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"client_or_url": 5}, TypeError, "must be a URL or a client of redis-py, got int"),
        ({"client_or_url": "http://:secret@host"}, ValueError, "not the URL of a store"),
        ({"client_or_url": "redis://:sec/ret@host:1"}, ValueError, "not the URL of a store"),
        ({"quorum": 0}, ValueError, "quorum must be a whole number of at least 1"),
        ({"quorum": 51}, ValueError, "quorum must be at most 50, got 51"),
        ({"prefix": "a b"}, ValueError, "prefix must be 1 to 100 printable ASCII"),
        ({"prefix": "{a}"}, ValueError, "prefix must be 1 to 100 printable ASCII"),
        ({"prefix": ""}, ValueError, "prefix must not be empty"),
        ({"probe_lease": 1.0}, ValueError, "probe_lease must be at least 4 times socket_timeout"),
        ({"poll_interval": 0}, ValueError, "poll_interval must be a finite number"),
        ({"socket_timeout": -1}, ValueError, "socket_timeout must be a finite number"),
        ({"name": 7}, TypeError, "name must be a str, got int"),
    ],
)
def test_a_wrong_argument_is_named(arguments, error, text):
    given = {"client_or_url": "redis://localhost"} | arguments
    with pytest.raises(error, match=text) as caught:
        RedisSharing(given.pop("client_or_url"), **given)
    assert "secret" not in str(caught.value)
    assert "ret@" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_client_that_connects_in_another_way_is_refused():
    class Other(redis.Connection):
        pass

    pool = redis.ConnectionPool(connection_class=Other)
    with pytest.raises(TypeError, match=r"must connect by one of Connection, .* got "):
        RedisSharing(redis.Redis(connection_pool=pool))


def test_a_registry_refuses_what_shares_nothing():
    with pytest.raises(TypeError, match="sharing must be a Sharing, got str"):
        CircuitBreakerRegistry(sharing="redis://localhost")


def test_its_repr_shows_no_password():
    sharing = RedisSharing("redis://user:secret@localhost", name="worker")
    assert "secret" not in repr(sharing)
    assert "'region-breaker' as " in repr(sharing)
    assert "/worker'" in repr(sharing)


# What the store says is not trusted

GOOD = [1, 5, b"O", 0, 0, 0, 0, 0, b"host/1", b"E 503", 1, 0, 1_700_000_000_000]


def test_a_good_answer_is_read():
    view = parse_reply(GOOD, 0.1).view
    assert (view.version, view.state, view.by, view.reason) == (5, "O", "host/1", "E 503")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 2),
        (1, -1),
        (1, 10**15),
        (1, b"5"),
        (2, b"X"),
        (2, 3),
        (3, None),
        (8, b"x" * 301),
        (12, 1.5),
    ],
)
def test_a_strange_answer_is_none(place, value):
    with pytest.raises(InvalidReplyError):
        parse_reply([*GOOD[:place], value, *GOOD[place + 1 :]], 0.1)


@pytest.mark.parametrize("reply", [None, b"OK", [], GOOD[:-1], [*GOOD, 0]])
def test_an_answer_of_another_shape_is_none(reply):
    with pytest.raises(InvalidReplyError):
        parse_reply(reply, 0.1)
    with pytest.raises(InvalidReplyError):
        parse_replies(reply, 1, 0.1)
    with pytest.raises(InvalidReplyError):
        parse_poll(reply, 1, 0.1)


@pytest.mark.parametrize("secret", [None, 5, b"", b"5" * 31, b"5" * 33])
def test_a_secret_of_another_length_is_none(secret):
    assert parse_poll([b"5" * 32, 7, GOOD], 1, 0.1).fleet_size == 7
    with pytest.raises(InvalidReplyError):
        parse_poll([secret, 7, GOOD], 1, 0.1)


def test_texts_from_the_store_are_made_fit_for_one_line():
    view = parse_reply([*GOOD[:8], b"host\n\xff", b"a\x1b[31m", *GOOD[10:]], 0.1).view
    assert (view.by, view.reason) == ("host\\n�", "a\\x1b[31m")


@pytest.mark.parametrize(
    ("region", "key"),
    [
        ("eu-west-1", "{p}:1:eu-west-1"),
        ("a b/c\n{d}", "{p}:1:a%20b%2Fc%0A%7Bd%7D"),
        ("\ud800", "{p}:1:%ED%A0%80"),
    ],
)
def test_a_region_is_escaped_in_its_key(region, key):
    assert protocol().key(region) == key


def test_a_long_region_has_a_short_key_of_its_own():
    one, other = protocol().key("x" * 100_000), protocol().key("x" * 100_001)
    assert one != other
    assert len(one) < 200


def protocol():
    return RecordProtocol("p", "0" * 16, "host/1", 5.0, 1)


# Who looks sees it


def test_exporters_and_the_status_page_show_whether_it_is_shared_and_with_which_process(
    one_store, log
):
    registries = [
        CircuitBreakerRegistry(BreakerPolicy(**QUICK), sharing=RedisSharing(one_store.url, name=n))
        for n in ("one", "other")
    ]
    one, other = (shared(registry.get(REGION)) for registry in registries)
    one.force_open("maintenance")
    until(lambda: other.state == "OPEN", "it is heard")
    prometheus, meters = CollectorRegistry(), InMemoryMetricReader()
    prometheus.register(CircuitCollector(registries[1]))
    observe(registries[1], MeterProvider([meters]))
    seen = PageState(registries[1]).full()
    assert 'circuit_breaker_shared{region="eu-west-1"} 1.0' in generate_latest(prometheus).decode()
    exported = meters.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    (metric,) = [metric for metric in exported if metric.name == "circuit_breaker.shared"]
    assert metric.data.data_points[0].value == 1
    assert seen["regions"][0]["shared"] is True
    assert seen["history"][0]["by"].endswith("/one")
    line = "forced open: maintenance, by " + client_name_of(one)
    until(lambda: texts(log, "ERROR")[-1].endswith(line), "it is logged")
    for registry in registries:
        registry.close()


def client_name_of(breaker):
    return sharing_of(breaker)._protocol.client_name


# What cannot start


def test_sharing_that_is_closed_is_refused():
    sharing = RedisSharing("redis://127.0.0.1:1/0")
    registry = CircuitBreakerRegistry(sharing=sharing)
    registry.clear()
    with pytest.raises(ValueError, match="sharing is closed: make a new RedisSharing"):
        registry.configure(sharing=sharing)


def test_a_lack_of_descriptors_fails_no_call_and_is_logged_once(monkeypatch, log):
    def lack(*_args):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("resilience.integrations.redis.sharing.Synchronizer", lack)
    registry = CircuitBreakerRegistry(
        BreakerPolicy(failure_threshold=1), sharing=RedisSharing("redis://127.0.0.1:1/0")
    )
    for region in ("a", "b"):
        registry.get(region).acquire().fail()
        assert registry.get(region).state.value == "OPEN"

    def written():
        return [record for record in log if "sharing cannot start" in record["message"]]

    until(written, "logged")  # a thread of its own may write it: no sink runs under the lock
    assert len(written()) == 1
    monkeypatch.undo()
    registry.close()
