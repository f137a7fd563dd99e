"""What the log, the server's list of clients and errors say about a connection that fails."""

import re
import ssl
import traceback

import pytest
import redis
import redis.asyncio

from resilience.integrations.redis import RedisSharing
from resilience.integrations.redis.fault import Fault, NoPrimaryError, describe_fault
from tests.support.needs import needs_store
from tests.support.sharing import lines, registries, shared, trip, warning
from tests.support.stores import SERVERS, free_port, serving, until

SECRET = "s3cret-of-the-store"


@pytest.fixture(params=SERVERS)
def store(request, tmp_path):
    needs_store(request.param)
    with serving(request.param, tmp_path) as store:
        yield store


def user(store, *rights):
    """Make a user with these rights; returns the URL."""
    with store.client() as client:
        client.execute_command("ACL", "SETUSER", "worker", "on", f">{SECRET}", *rights)
    return f"redis://worker:{SECRET}@127.0.0.1:{store.port}"


ALL = ("~*", "&*", "+@all")


# One line for each kind of fault: address, code, and never a password


def refused(store):
    return f"redis://:{SECRET}@127.0.0.1:{free_port()}"


def no_password(store):
    with store.client() as client:
        client.config_set("requirepass", SECRET)
    return store.url


def wrong_password(store):
    return user(store, *ALL).replace(SECRET, f"{SECRET}-not")


def no_eval(store):
    return user(store, *ALL, "-eval", "-evalsha")


def no_channel(store):
    return user(store, "~*", "resetchannels", "+@all")


def no_writes(store):
    return user(store, *ALL, "-@write")


def no_key(store):
    return user(store, "~other", "&*", "+@all")


def no_database(store):
    return f"{user(store, *ALL)}/999"


def hangs(store):
    store.pause()
    return store.url


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (refused, "ECONNREFUSED: Connection refused"),
        (no_password, "NOAUTH: a password is required"),
        (wrong_password, "WRONGPASS: it is not accepted"),
        (no_eval, "NOPERM: the user has no permission for eval"),
        (no_channel, "NOPERM: the user has no permission for a command, key or channel"),
        (no_writes, "NOPERM: the user has no permission for "),
        (no_key, "NOPERM: the user has no permission for a command, key or channel"),
        (no_database, "ERR: it has no such database"),
        (hangs, "no answer in time"),
    ],
)
def test_each_fault_has_its_line(store, fault, line, log):
    with registries() as make:
        url = fault(store)
        port = re.search(r":(\d+)(/|$)", url)[1]
        make(url).get("eu-west-1")
        expected = f"sharing is lost, circuits go on alone: 127.0.0.1:{port}: {line}"
        assert warning(log).startswith(expected)
        store.resume()
    assert SECRET not in str([record["message"] for record in log])


def test_a_host_that_does_not_exist_has_its_line(log):
    with registries() as make:
        make("redis://no-such-host.invalid:1").get("eu-west-1")
        assert re.search(r"no-such-host\.invalid:1: EAI_\w+: the host was not found", warning(log))


# redis-py 5 does not close the socket.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_socket_that_does_not_exist_has_its_line(tmp_path, log):
    with registries() as make:
        make(f"unix://{tmp_path}/socket").get("eu-west-1")
        assert f"unix:{tmp_path}/socket: ENOENT: No such file or directory" in warning(log)


def test_why_a_store_is_not_used_when_it_is_back_is_logged_once(store, log):
    with registries() as make:
        shared(make(store.url, poll_interval=0.1))
        store.kill()
        warning(log)
        store.start("--requirepass", SECRET)
        until(lambda: len(lines(log, "WARNING")) > 1, "it is logged")
        with store.client(password=SECRET) as client:
            attempts = client.info("stats")["total_connections_received"]
            until(
                lambda: client.info("stats")["total_connections_received"] > attempts + 4,
                "it goes on trying",
            )
            client.config_set("requirepass", "")
        until(lambda: "sharing is back" in lines(log, "INFO"), "it is back")
    (again,) = lines(log, "WARNING")[1:]
    assert again.startswith("cannot connect again, circuits go on alone: 127.0.0.1:")
    assert again.endswith(": NOAUTH: a password is required")


IN_SCRIPT = f"Error running script (call to f_{'0' * 40}): @user_script:57: @user_script: 57: "


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (redis.ReadOnlyError("You can't write against a read only replica."), "READONLY"),
        (redis.exceptions.OutOfMemoryError("command not allowed when used memory"), "OOM"),
        (redis.BusyLoadingError("Redis is loading the dataset in memory"), "LOADING"),
        (redis.exceptions.ClusterDownError("The cluster is down"), "CLUSTERDOWN"),
        (redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "MISCONF"),
        (redis.ResponseError("DENIED Redis is running in protected mode because"), "DENIED: the"),
        (redis.ConnectionError("max number of clients reached"), "ERR: the server has as many cl"),
        # Redis 6.2
        (redis.ResponseError(f"{IN_SCRIPT}-READONLY You can't write against a"), "READONLY: the"),
        (redis.ResponseError(f"{IN_SCRIPT}-OOM command not allowed when used"), "OOM: the"),
        (redis.ResponseError(f"{IN_SCRIPT}-MISCONF Redis is configured to save"), "MISCONF: the"),
        (redis.ResponseError(f"{IN_SCRIPT}-S3CRET is wrong"), "ERR: the"),
        (redis.ResponseError(f"{IN_SCRIPT}The user executing the script can't run"), "NOPERM"),
        (redis.ResponseError("S3CRET is wrong"), "ERR"),
        (redis.ResponseError(f"unknown command 'AUTH', with args: '{SECRET}'"), "ERR"),
        (redis.exceptions.NoPermissionError(f"'{SECRET}' has no permission"), "NOPERM"),
        (redis.ConnectionError("Connection closed by server."), "the connection has ended"),
        (redis.RedisError(SECRET), "RedisError"),
        (NoPrimaryError("one: ENOENT"), "no Sentinel names it (one: ENOENT)"),
        (OSError(SECRET), "OSError"),
        (ssl.SSLError(SECRET), "TLS failed: no reason given"),
        (TimeoutError(SECRET), "no answer in time"),
    ],
)
def test_a_fault_is_described_by_its_code_alone(error, text):
    fault = describe_fault(error)
    assert fault.text.startswith(text)
    assert SECRET not in fault.text


def test_errors_that_cause_each_other_are_described():
    one, other = redis.RedisError(), redis.RedisError()
    one.__cause__, other.__cause__ = other, one
    assert describe_fault(one) == Fault("RedisError")


# The names of connections


def names_of_connections(store):
    with store.client() as client:
        return sorted(one["name"] for one in client.client_list() if one["name"])


def test_both_connections_have_the_name_of_the_process(store):
    with registries() as make:
        registry = make(store.url, name="inbound é", prefix="prod")
        shared(registry)
        name = registry._settings.sharing._protocol.client_name
        expected = f"prod:{name}".replace(" ", "_").replace("é", "_")
        assert names_of_connections(store) == [expected, expected]


def test_a_user_who_may_not_name_connections_shares_without_names(store, log):
    with registries() as make:
        shared(make(user(store, *ALL, "-client")))
        assert names_of_connections(store) == []
    assert not lines(log, "WARNING")


# What a URL and a client may say


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://localhost?sll_ca_certs=x", "unknown parameter, similar to 'ssl_ca_certs'; exp"),
        ("redis://localhost?db=1&dbb=2", "unknown parameter, similar to 'db'"),
        ("redis://localhost?ssl_ca_certs=x", "'ssl_ca_certs', which only another scheme takes"),
        ("unix:///socket?ssl_ca_certs=x", "'ssl_ca_certs', which only another scheme takes"),
        ("redis://localhost?self=1", "has an unknown parameter; expected"),
        ("redis://localhost?args=1", "has an unknown parameter; expected"),
        ("redis://localhost?kwargs=1", "has an unknown parameter; expected"),
        ("redis://localhost?s3cret!", "an unknown parameter; expected"),
        # A password that ends early: what follows the & is a part of it.
        ("redis://localhost?password=x&secretpart", "an unknown parameter; expected"),
        ("redis://localhost?password=x&secretpart=", "an unknown parameter; expected"),
        ("redis://localhost?db=", "no value for its parameter 'db'"),
        ("redis://localhost?db=x", "not the URL of a store"),
        ("redis://localhost/x", "its path must be the number of a database"),
        ("redis://:1#2@localhost", "it has a #, which is written as %23 in a password"),
        ("redis://u:1?2@localhost", r"it has a \? before the @, which is written as %3F"),
        ("redis://u:1/2@localhost", "it has a / before the @, which is written as %2F"),
        ("redis://[localhost", "it cannot be read"),
        ("http://localhost", "not the URL of a store, expected redis://, rediss:// or unix://"),
        ("", "not the URL of a store, expected redis://"),
    ],
)
def test_a_url_that_would_be_misunderstood_is_refused(url, text):
    with pytest.raises(ValueError, match=text) as caught:
        RedisSharing(url)
    assert "s3cret" not in str(caught.value)
    assert "secretpart" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "query",
    [
        "db=3",
        "socket_keepalive=true",
        "password=x&username=y",
        # Those of the application's own client change nothing here.
        "socket_timeout=5&max_connections=7&health_check_interval=30&protocol=3&timeout=2",
    ],
)
def test_parameters_that_redis_py_knows_are_taken(query):
    RedisSharing(f"redis://localhost?{query}")


def test_the_path_is_the_database(store):
    with registries() as make:
        trip(shared(make(f"{store.url}/3")))
        with store.client(db=3) as client:
            until(lambda: client.exists("{region-breaker}:1:eu-west-1"), "it is written there")


class Other:
    pass


@pytest.mark.parametrize("given", [5, None, b"redis://localhost", Other(), Other, redis.Redis])
def test_what_is_no_url_and_no_client_is_refused_by_its_type(given):
    with pytest.raises(TypeError, match="must be a URL or a client of redis-py, got "):
        RedisSharing(given)


def test_no_password_is_shown_by_an_object_or_an_error():
    client = redis.Redis(password=SECRET, port=free_port())
    sharing = RedisSharing(client)
    server = sharing._address.locate()
    shown = [repr(sharing), repr(sharing._address), repr(server), str(server)]
    try:
        server.connect()
    except redis.ConnectionError as error:
        shown += traceback.format_exception(error)
    assert SECRET not in "".join(shown)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://[::1]:1234", "[::1]:1234"),
        ("redis://store:1234", "store:1234"),
        ("redis://127.0.0.1", "127.0.0.1:6379"),
        ("unix:///run/store", "unix:/run/store"),
    ],
)
def test_an_address_is_shown_as_a_url_would_have_it(url, shown):
    assert str(RedisSharing(url)._address.locate()) == shown
