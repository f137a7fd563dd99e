"""The two connections to the store: one for commands, one for notifications of changes.

They are redis-py's connections, not its client, which would try again and so delay the
synchronizer.
"""

import hashlib
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Final, Protocol, cast

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import NoScriptError
from redis.retry import Retry

from resilience._validate import name_of
from resilience.integrations.redis.notification import Notification, newest
from resilience.integrations.redis.protocol import SCRIPT, InvalidReplyError, Request
from resilience.integrations.redis.subscription import SubscriptionReader

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
_DIGEST: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
# Seconds. A connection that the store has ended earlier, without an answer, is not made again.
_LASTS: Final = 0.5
_BYTES_AT_A_TIME: Final = 65_536
# Notifications are followed after this many times, however many more there are.
_TIMES_IN_A_ROW: Final = 16


class _Connection(Protocol):
    """What is used of a connection of redis-py."""

    def connect(self) -> object: ...

    def send_command(self, *args: object) -> object: ...

    def read_response(self) -> object: ...

    def can_read(self, timeout: float = 0) -> bool: ...

    def disconnect(self) -> object: ...

    def fileno(self) -> int: ...

    def receive(self, *, waits: bool) -> bytes: ...


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

    def receive(self: _WithSocket, *, waits: bool) -> bytes:
        """Return what has arrived, past redis-py: nothing if that is nothing."""
        held = self._sock  # pyright: ignore[reportPrivateUsage]
        if held is None:
            raise redis.ConnectionError("not connected")
        timeout = held.gettimeout()
        if not waits:
            held.settimeout(0)
        try:
            received = held.recv(_BYTES_AT_A_TIME)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        finally:
            held.settimeout(timeout)
        if not received:
            raise redis.ConnectionError("closed by the store")
        return received


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
    """The connection that runs the script.

    Stores and what stands before them end connections that have been idle. That is noticed
    immediately, and is not a loss of the store if it can be connected to again.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connect()

    def _connect(self) -> None:
        self._connection = self._address.connect()
        self._connected_at = time.monotonic()
        self._has_answered = False

    def run(self, request: Request) -> object:
        """Run the script and return its answer.

        The script may have run already when the connection ends: a command does nothing the second
        time.
        """
        try:
            return self._run(request)
        except redis.ConnectionError as error:
            self._connect_again(error)
            return self._run(request)

    def check(self) -> None:
        """Connect again if the store has ended the connection.

        Raises:
            InvalidReplyError: The store has said something that it was not asked for.
            redis.ConnectionError: It has ended the connection before it has answered.
        """
        try:
            has_spoken = self._connection.can_read(0)
        except redis.ConnectionError as error:
            self._connect_again(error)
            return
        if has_spoken:
            raise InvalidReplyError

    def _connect_again(self, error: redis.ConnectionError) -> None:
        """Connect again, unless the error has come as soon as the connection was made."""
        if not self._has_answered and time.monotonic() - self._connected_at < _LASTS:
            raise error
        self._connection.disconnect()
        self._connect()

    def _run(self, request: Request) -> object:
        keys_and_arguments = (len(request.keys), *request.keys, *request.arguments)
        try:
            return self._ask("EVALSHA", _DIGEST, *keys_and_arguments)
        except NoScriptError:  # the store is new, or was flushed
            return self._ask("EVAL", SCRIPT, *keys_and_arguments)

    def _ask(self, *command: object) -> object:
        self._connection.send_command(*command)
        answer = self._connection.read_response()
        self._has_answered = True
        return answer

    def fileno(self) -> int:
        """Return the descriptor that can be read when the connection has ended."""
        return self._connection.fileno()

    def close(self) -> None:
        """Disconnect."""
        self._connection.disconnect()


class Notifications:
    """The connection that is notified of changes.

    Attributes:
        are_pending: Whether more of them had arrived than `read` has read.
    """

    def __init__(self, address: Address, channel: str) -> None:
        self._connection = address.connect()
        self._reader = SubscriptionReader(channel)
        self.are_pending = False
        self._connection.send_command("SUBSCRIBE", channel)
        while not self._reader.is_confirmed:
            self._reader.feed(self._connection.receive(waits=True))

    def read(self) -> dict[str, Notification]:
        """Return the newest notification for each key, without waiting."""
        contents: list[bytes] = []
        for _ in range(_TIMES_IN_A_ROW):
            received = self._connection.receive(waits=False)
            if not received:
                self.are_pending = False
                break
            contents += self._reader.feed(received)
        else:
            self.are_pending = True
        return newest(contents)

    def ping(self) -> None:
        """Send a ping; the one before must have been answered.

        Raises:
            redis.ConnectionError: It was not.
        """
        if not self._reader.is_ping_answered:
            raise redis.ConnectionError("no answer to a PING")
        self._reader.is_ping_answered = False
        self._connection.send_command("PING")

    def fileno(self) -> int:
        """Return the descriptor that can be read when a notification has arrived."""
        return self._connection.fileno()

    def close(self) -> None:
        """Disconnect."""
        self._connection.disconnect()
