"""Address: where the store is and who connects, taken from a URL or a client of redis-py."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Any, Final, Protocol, cast
from urllib.parse import SplitResult, parse_qsl, urlsplit

import redis
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection

from resilience._validate import kind_of
from resilience.integrations.redis.discovery import Discovery, KnownServers, SentinelService
from resilience.integrations.redis.server import Server

# Parameters of a URL that redis-py takes for its pools, not for its connections.
_POOL_PARAMETERS: Final = frozenset({"max_connections", "timeout"})
_CONNECTION_TYPES: Final = {"rediss": SSLConnection, "unix": UnixDomainSocketConnection}
_STARRED: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
# From this ratio on, a name of a parameter is taken for a misspelled one.
_SIMILAR: Final = 0.75
# Before version 6 a client does not check host names by default, and the setting does not show
# whether somebody has chosen that.
_CHECKS_HOST_NAMES: Final = int(redis.__version__.partition(".")[0]) >= 6  # noqa: PLR2004


class _Pool(Protocol):
    """What is used of a client's connection pool."""

    connection_class: type
    connection_kwargs: Mapping[str, object]


class Address:
    """Where the store is, and who connects; no text or error shows a password.

    Args:
        client_or_url: A URL, or a client of redis-py, sync or async: of one server, of a service
            of Sentinels, or of a cluster.
        socket_timeout: Seconds until the store counts as gone.

    Raises:
        TypeError: It is neither, or a client that connects in another way.
        ValueError: The URL is not one of a store, or has a wrong setting.
    """

    def __init__(self, client_or_url: object, socket_timeout: float) -> None:
        self._discovery = _discovery_of(client_or_url, socket_timeout)

    def locate(self) -> Server:
        """Return the server to connect to now.

        Raises:
            redis.ConnectionError: It cannot be found.
        """
        return self._discovery.locate()

    def follow(self, error: BaseException) -> bool:
        """Return whether an error only says that another server has the keys, the next one.

        Args:
            error: What has ended the connection to the server that was located last.
        """
        return self._discovery.follow(error)

    def __str__(self) -> str:
        return str(self._discovery)

    def __repr__(self) -> str:
        return f"<Address {self}>"


def _discovery_of(client_or_url: object, socket_timeout: float) -> Discovery:
    if isinstance(client_or_url, str):
        pool = _pool_of_url(client_or_url)
        server = Server(pool.connection_class, pool.connection_kwargs, socket_timeout)
        return KnownServers([server])
    if hasattr(client_or_url, "nodes_manager"):
        return _nodes_of(client_or_url, socket_timeout)
    pool = _pool_of(client_or_url)
    if hasattr(pool, "sentinel_manager"):
        return _service_of(pool, socket_timeout)
    return KnownServers([_server_of(pool, socket_timeout)])


# Clients


def _pool_of(client: object) -> _Pool:
    if hasattr(client, "master_for"):
        raise TypeError(
            "client_or_url must be a URL or a client of redis-py, got a Sentinel: pass the client"
            " that its master_for(service_name) returns"
        )
    pool = getattr(client, "connection_pool", None)
    if pool is None or not hasattr(pool, "connection_class"):
        got = kind_of(client)
        raise TypeError(f"client_or_url must be a URL or a client of redis-py, got {got}")
    return cast("_Pool", pool)


def _server_of(pool: _Pool, socket_timeout: float) -> Server:
    return Server(pool.connection_class, _said_by_user(pool.connection_kwargs), socket_timeout)


def _said_by_user(settings: Mapping[str, object]) -> dict[str, object]:
    """Return the settings of a client without those that only redis-py has chosen."""
    defaults = () if _CHECKS_HOST_NAMES else ("ssl_check_hostname",)
    return {name: value for name, value in settings.items() if name not in defaults}


def _service_of(pool: Any, socket_timeout: float) -> SentinelService:
    if not pool.is_master:
        raise TypeError(
            "client_or_url must be a client of the primary, got one of its replicas, which take no"
            " writes: pass what the Sentinel's master_for(service_name) returns"
        )
    sentinels = [
        _server_of(sentinel.connection_pool, socket_timeout)
        for sentinel in pool.sentinel_manager.sentinels
    ]
    return SentinelService(pool.service_name, sentinels, _server_of(pool, socket_timeout))


def _nodes_of(cluster: Any, socket_timeout: float) -> KnownServers:
    """Return the nodes of a cluster: all keys of one prefix belong to one of them."""
    manager = cluster.nodes_manager
    settings = _said_by_user(manager.connection_kwargs)
    nodes = [*manager.startup_nodes.values(), *manager.nodes_cache.values()]
    default = SSLConnection if settings.get("ssl") else Connection
    connection_type = cast("type", settings.get("connection_class", default))
    settings |= {"host": nodes[0].host, "port": nodes[0].port}
    server = Server(connection_type, settings, socket_timeout)
    addresses = dict.fromkeys((str(node.host), int(node.port)) for node in nodes)
    return KnownServers([server.at(host, port) for host, port in addresses])


# URLs


def _pool_of_url(url: str) -> _Pool:
    problem = _problem_with(url)
    if problem:
        raise ValueError(f"client_or_url is not the URL of a store: {problem}")
    _check_parameters(urlsplit(url))
    try:
        return cast("_Pool", ConnectionPool.from_url(url))
    except ValueError:
        pass  # its text is dropped: it may hold a part of the password
    expected = "redis://, rediss:// or unix:// and a valid address"
    raise ValueError(f"client_or_url is not the URL of a store, expected {expected}")


def _problem_with(url: str) -> str:
    """Return what redis-py would misunderstand without an error, as where a password ends early."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "it cannot be read"
    if parts.fragment or "#" in url:
        return "it has a #, which is written as %23 in a password"
    if "@" in parts.query:
        return "it has a ? before the @, which is written as %3F in a password"
    if "@" in parts.path and parts.scheme != "unix":
        return "it has a / before the @, which is written as %2F in a password"
    if parts.scheme in ("redis", "rediss") and not re.fullmatch(r"/?|/\d{1,9}/?", parts.path):
        return "its path must be the number of a database"
    return ""


def _check_parameters(url: SplitResult) -> None:
    """Refuse parameters that would have no effect, such as one that is misspelled."""
    connection_type = _CONNECTION_TYPES.get(url.scheme, Connection)
    known = _parameters_of(connection_type)
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        if name not in known:
            raise ValueError(
                f"client_or_url has an unknown parameter{_similar_to(name)}; expected a setting of"
                " redis-py's connections, such as db, ssl_ca_certs or ssl_cert_reqs"
            )
        if not value:
            raise ValueError(f"client_or_url has no value for its parameter {name!r}")


def _similar_to(name: str) -> str:
    """Return which one is meant; what was given is not shown, since it may end a password."""
    names = set[str]().union(*map(_parameters_of, (Connection, *_CONNECTION_TYPES.values())))
    if name in names:
        return f", {name!r}, which only another scheme takes"
    similar = get_close_matches(name, sorted(names), n=1, cutoff=_SIMILAR)
    return f", similar to {similar[0]!r}" if similar else ""


def _parameters_of(connection_type: type) -> set[str]:
    """Return the parameters that redis-py takes for a type of connection, and for its pools."""
    names = set(_POOL_PARAMETERS)
    for base in connection_type.__mro__:
        if "__init__" in vars(base):
            parameters = signature(vars(base)["__init__"]).parameters.values()
            names.update(one.name for one in parameters if one.kind not in _STARRED)
    return names - {"self"}
