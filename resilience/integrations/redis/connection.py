"""The two connections to the store: one for commands, one for notifications of changes.

They are redis-py's connections, not its client, which would try again and so delay the
synchronizer.
"""

import re
import selectors
import socket
from collections.abc import Mapping
from typing import Final, Protocol, cast

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import NoScriptError
from redis.retry import Retry

from resilience._validate import name_of
from resilience.integrations.redis.protocol import SCRIPT, Request
from resilience.integrations.redis.wakeup import Wakeup

# Not epoll: the child of a fork would share it with its parent.
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)
# The settings of a connection that say where the store is, and who connects. Those for TLS, which
# begin with "ssl_", are kept as well; all others are chosen here.
_KEPT_SETTINGS: Final = frozenset(
    {
        "host",
        "port",
        "path",
        "db",
        "username",
        "password",
        "credential_provider",
        "socket_type",
        "socket_keepalive",
        "socket_keepalive_options",
    }
)
# A version and a key.
_NOTIFICATION: Final = re.compile(rb"([0-9]{1,15}) (.{1,500})", re.DOTALL)


class _Connection(Protocol):
    """What is used of a connection of redis-py."""

    def connect(self) -> object: ...

    def send_command(self, *args: object) -> object: ...

    def read_response(self) -> object: ...

    def can_read(self, timeout: float = 0) -> bool: ...

    def disconnect(self) -> object: ...

    def fileno(self) -> int: ...


class _ConnectionType(Protocol):
    def __call__(self, **settings: object) -> _Connection: ...


class _Pool(Protocol):
    """What is used of a client's connection pool."""

    connection_class: type
    connection_kwargs: Mapping[str, object]


class _WithSocket(Protocol):
    """What a connection of redis-py keeps to itself."""

    _sock: socket.socket | None


class _Waitable:
    """Lets one wait for a connection together with other sockets: redis-py has no public way."""

    def fileno(self: _WithSocket) -> int:
        held = self._sock  # pyright: ignore[reportPrivateUsage]
        return -1 if held is None else held.fileno()


class _TcpConnection(_Waitable, Connection):
    pass


class _TlsConnection(_Waitable, SSLConnection):
    pass


class _UnixConnection(_Waitable, UnixDomainSocketConnection):
    pass


# By name: the connections of the asynchronous client are called the same.
_CONNECTION_TYPES: Final = {
    "Connection": _TcpConnection,
    "SSLConnection": _TlsConnection,
    "UnixDomainSocketConnection": _UnixConnection,
}


class Address:
    """Where the store is, taken from a URL or a client; no text or error shows any of it.

    Args:
        client_or_url: A URL, or a client of redis-py, sync or async.
        socket_timeout: Seconds until the store counts as gone.

    Raises:
        TypeError: It is neither, or a client that connects in another way.
        ValueError: The URL is not one of a store.
    """

    def __init__(self, client_or_url: object, socket_timeout: float) -> None:
        pool = _pool_of(client_or_url)
        connection_type = _CONNECTION_TYPES.get(pool.connection_class.__name__)
        if connection_type is None:
            known = ", ".join(_CONNECTION_TYPES)
            got = name_of(pool.connection_class)
            raise TypeError(f"client_or_url must connect by one of {known}, got {got}")
        self._connection_type = cast("_ConnectionType", connection_type)
        self._settings: dict[str, object] = {
            name: value
            for name, value in pool.connection_kwargs.items()
            if name in _KEPT_SETTINGS or name.startswith("ssl_")
        }
        self._settings |= {
            "socket_timeout": socket_timeout,
            "socket_connect_timeout": socket_timeout,
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
            "protocol": 2,
            "decode_responses": False,
        }

    def connect(self) -> _Connection:
        """Return a new connection."""
        connection = self._connection_type(**self._settings)
        connection.connect()
        return connection


def _pool_of(client_or_url: object) -> _Pool:
    if isinstance(client_or_url, str):
        return _pool_of_url(client_or_url)
    pool = getattr(client_or_url, "connection_pool", None)
    if pool is None or not hasattr(pool, "connection_class"):
        got = type(client_or_url).__name__
        raise TypeError(f"client_or_url must be a URL or a client of redis-py, got {got}")
    return cast("_Pool", pool)


def _pool_of_url(url: str) -> _Pool:
    try:
        return cast("_Pool", ConnectionPool.from_url(url))
    except ValueError:
        pass  # its text is dropped: it may hold a part of the password
    expected = "redis://, rediss:// or unix:// and a valid address"
    raise ValueError(f"client_or_url is not the URL of a store, expected {expected}")


class CommandConnection:
    """The connection that runs the script."""

    def __init__(self, address: Address) -> None:
        self._connection = address.connect()
        self._digest: object = None

    def run(self, request: Request) -> object:
        """Run the script and return its answer."""
        keys_and_arguments = (len(request.keys), *request.keys, *request.arguments)
        if self._digest is None:
            self._digest = self._ask("SCRIPT", "LOAD", SCRIPT)
        try:
            return self._ask("EVALSHA", self._digest, *keys_and_arguments)
        except NoScriptError:  # the store was flushed
            self._digest = None
            return self._ask("EVAL", SCRIPT, *keys_and_arguments)

    def _ask(self, *command: object) -> object:
        self._connection.send_command(*command)
        return self._connection.read_response()

    def close(self) -> None:
        """Disconnect."""
        self._connection.disconnect()


class Notifications:
    """The connection that is notified of changes.

    A notification only says which record should be read, so that a false one does no harm.
    """

    def __init__(self, address: Address, channel: str) -> None:
        self._connection = address.connect()
        self._ping_is_unanswered = False
        self._connection.send_command("SUBSCRIBE", channel)
        self._connection.read_response()

    def wait(self, wakeup: Wakeup, seconds: float) -> dict[str, int]:
        """Wait for a notification, the wakeup or the time.

        Returns:
            The newest version that was announced for each key.
        """
        with _Selector() as selector:
            selector.register(wakeup, selectors.EVENT_READ)
            selector.register(self._connection, selectors.EVENT_READ)
            selector.select(max(0.0, seconds))
        wakeup.clear()
        return self.read()

    def read(self) -> dict[str, int]:
        """Return the newest version that was announced for each key, without waiting."""
        newest: dict[str, int] = {}
        while self._connection.can_read(0):
            message = self._connection.read_response()
            kind, content = (message[0], message[-1]) if isinstance(message, list) else ("", "")
            if kind == b"pong":
                self._ping_is_unanswered = False
            elif isinstance(content, bytes) and (found := _NOTIFICATION.fullmatch(content)):
                key, version = found[2].decode("utf-8", "replace"), int(found[1])
                newest[key] = max(version, newest.get(key, 0))
        return newest

    def ping(self) -> None:
        """Send a ping; the one before must have been answered.

        Raises:
            redis.ConnectionError: It was not.
        """
        if self._ping_is_unanswered:
            raise redis.ConnectionError
        self._ping_is_unanswered = True
        self._connection.send_command("PING")

    def close(self) -> None:
        """Disconnect."""
        self._connection.disconnect()
