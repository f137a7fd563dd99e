"""What administrators, and other users of the same server, do to it while a fleet shares."""

import pytest

from tests.support.liar import Impatient
from tests.support.sharing import call, lines, registries, shared, warning
from tests.support.stores import Store, binaries, until

PREFIX, FORCED = "{region-breaker}:", "us-east-1"


@pytest.fixture
def store(tmp_path):
    store = Store(binaries()["valkey"], tmp_path, "--enable-debug-command", "yes")
    store.start()
    yield store
    store.kill()


def own_keys(admin):
    return list(admin.scan_iter(f"{PREFIX}*", count=1000))


def polls(admin):
    """Return how often the processes have polled, which each follow up with a ping."""
    return admin.info("commandstats")["cmdstat_ping"]["calls"]


def pauses_all(admin):
    admin.client_pause(1_000)


def pauses_writes(admin):
    admin.client_pause(1_000, all=False)


def sleeps(admin):
    admin.execute_command("DEBUG", "SLEEP", "1")


def flushes_the_scripts(admin):
    admin.script_flush()


def flushes_everything(admin):
    admin.flushall(asynchronous=True)


def ends_the_life_of_all_keys(admin):
    for key in own_keys(admin):
        admin.pexpire(key, 1)


def lets_all_keys_live_for_ever(admin):
    for key in own_keys(admin):
        admin.persist(key)


def writes_something_else_over_all_keys(admin):
    for key in own_keys(admin):
        admin.set(key, "?")


def writes_large_hashes_over_all_keys(admin):
    for key in own_keys(admin):
        admin.delete(key)
        admin.hset(key, mapping={f"field {number}": number for number in range(20_000)})


def lets_the_server_evict(admin):
    admin.config_set("maxmemory-policy", "allkeys-random")
    used = admin.info("memory")["used_memory"]
    admin.config_set("maxmemory", used + 200_000)
    for number in range(500):
        admin.set(f"another application's {number}", "x" * 1_000)
    admin.config_set("maxmemory", 0)


def ends_all_connections(admin):
    for kind in ("normal", "pubsub"):
        admin.client_kill_filter(_type=kind, skipme=True)


def swaps_databases(admin):
    admin.swapdb(0, 1)


@pytest.mark.parametrize(
    "mistreat",
    [
        pauses_all,
        pauses_writes,
        sleeps,
        flushes_the_scripts,
        flushes_everything,
        ends_the_life_of_all_keys,
        lets_all_keys_live_for_ever,
        writes_something_else_over_all_keys,
        writes_large_hashes_over_all_keys,
        lets_the_server_evict,
        ends_all_connections,
        swaps_databases,
    ],
)
def test_the_fleet_goes_on(store, mistreat):
    options = {"poll_interval": 0.2, "socket_timeout": 0.5}
    with registries() as make, store.client() as admin:
        first, second = (make(store.url, **options) for _ in range(2))
        one, other = shared(first), shared(second)
        forced, follower = shared(first, FORCED), shared(second, FORCED)
        forced.force_open("maintenance")
        until(lambda: follower.state == "OPEN", "it is heard")
        for _ in range(2):
            mistreat(admin)
            assert call(one)
            assert call(other)
        before = polls(admin)
        until(lambda: polls(admin) > before + 6, "they poll")
        one.force_open("maintenance")
        until(lambda: other.state == "OPEN", "it is heard")
        other.reset()
        until(lambda: one.state == "CLOSED", "and so is this")
        assert (forced.state, follower.state) == ("OPEN", "OPEN")
        third = make(store.url, **options)
        until(lambda: shared(third, FORCED).state == "OPEN", "a new process learns it")


def test_a_user_that_is_deleted_and_made_again_is_a_loss_that_is_logged_once(store, log):
    user = ("ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all")
    with registries() as make, store.client() as admin:
        admin.execute_command(*user)
        url = f"redis://worker:secret@127.0.0.1:{store.port}"
        one, other = (shared(make(url, poll_interval=0.2)) for _ in range(2))
        admin.execute_command("ACL", "DELUSER", "worker")
        until(lambda: not (one.snapshot().shared or other.snapshot().shared), "it is noticed")
        assert call(one)
        admin.execute_command(*user)
        until(lambda: one.snapshot().shared and other.snapshot().shared, "they share again")
        one.force_open("maintenance")
        until(lambda: other.state == "OPEN", "it is heard")
    assert len([line for line in lines(log, "WARNING") if "sharing is lost" in line]) == 2


@pytest.mark.parametrize("command", ["UNLINK", "CLIENT", "ZADD"])
def test_commands_that_are_renamed_and_not_needed_are_not_missed(tmp_path, command):
    store = Store(binaries()["valkey"], tmp_path, "--rename-command", command, "hidden")
    store.start()
    with registries() as make, store.client() as admin:
        admin.set(f"{PREFIX}1:eu-west-1", "?")
        one, other = (shared(make(store.url, poll_interval=0.2)) for _ in range(2))
        one.force_open("maintenance")
        until(lambda: other.state == "OPEN", "it is heard")
    store.kill()


@pytest.mark.parametrize("command", ["EVALSHA", "HSET", "HMGET", "PUBLISH", "SUBSCRIBE"])
def test_a_command_that_is_renamed_and_needed_is_a_loss(tmp_path, log, command):
    store = Store(binaries()["valkey"], tmp_path, "--rename-command", command, "hidden")
    store.start()
    with registries() as make:
        breaker = make(store.url, poll_interval=0.2).get("eu-west-1")
        assert warning(log).endswith(": ERR: the server refuses a command")
        assert breaker.snapshot().shared is False
        assert call(breaker)
    store.kill()


def test_a_server_with_as_many_clients_as_it_takes_says_so(store, log):
    with registries() as make, store.client() as admin:
        admin.config_set("maxclients", admin.info("clients")["connected_clients"])
        registry = make(store.url)
        registry.get("eu-west-1")
        assert warning(log).endswith(": ERR: the server has as many clients as it takes")
        admin.config_set("maxclients", 100)
        shared(registry)


def test_a_server_in_protected_mode_says_so(log):
    liar = Impatient(b"-DENIED Redis is running in protected mode because\r\n", times=1)
    with registries() as make:
        make(liar.url).get("eu-west-1")
        assert warning(log).endswith(": DENIED: the server refuses a command")
    liar.close()
