"""Server: one server of a store, and how a connection to it is made.

The connections are redis-py's, not those of its client, which would try again and so delay the
synchronizer.
"""

import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from inspect import signature
from typing import Final, Protocol, cast

import redis
from redis.backoff import NoBackoff
from redis.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from resilience._text import one_line
from resilience._validate import name_of
from resilience.integrations.redis.fault import is_protected

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
# Let redis-py not introduce itself: two answers less to wait for, and a permission less to need.
_NO_INTRODUCTION: Final = (
    {"driver_info": None}
    if "driver_info" in signature(AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}  # before version 8
)
_BYTES_AT_A_TIME: Final = 65_536
_NO_VERIFICATION: Final = (None, "none", ssl.CERT_NONE)


class _Connection(Protocol):
    """What is used of a connection of redis-py."""

    def connect(self) -> object: ...

    def send_command(self, *args: object) -> object: ...

    def read_response(self) -> object: ...

    def can_read(self, timeout: float = 0) -> bool: ...

    def disconnect(self) -> object: ...

    def fileno(self) -> int: ...

    def peer(self) -> object: ...

    def receive(self, *, waits: bool) -> bytes: ...


class _ConnectionType(Protocol):
    def __call__(self, **settings: object) -> _Connection: ...


class _WithSocket(Protocol):
    """What a connection of redis-py keeps to itself."""

    _sock: socket.socket | None


class _Waitable:
    """Lets one wait for a connection together with other sockets: redis-py has no public way."""

    def fileno(self: _WithSocket) -> int:
        held = self._sock  # pyright: ignore[reportPrivateUsage]
        return -1 if held is None else held.fileno()

    def peer(self: _WithSocket) -> object:
        """Return the address at the other end; None if that is gone already."""
        held = self._sock  # pyright: ignore[reportPrivateUsage]
        with suppress(OSError):
            return None if held is None else held.getpeername()
        return None

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
    "SentinelManagedConnection": _TcpConnection,
    "SentinelManagedSSLConnection": _TlsConnection,
}


class Server:
    """One server, and who connects to it; no text or error shows a password.

    Args:
        connection_type: The type of connection that a client of redis-py, sync or async, would use.
        settings: The settings of a connection of redis-py. Those that do not say where the server
            is, and who connects, are replaced.
        socket_timeout: Seconds without an answer until the server counts as gone.

    Raises:
        TypeError: The type of connection is not known.
        ValueError: redis-py refuses a setting.
    """

    def __init__(
        self, connection_type: type, settings: Mapping[str, object], socket_timeout: float
    ) -> None:
        known = _CONNECTION_TYPES.get(connection_type.__name__)
        if known is None:
            names = ", ".join(_CONNECTION_TYPES)
            got = name_of(connection_type)
            raise TypeError(f"client_or_url must connect by one of {names}, got {got}")
        self._connection_type = cast("_ConnectionType", known)
        self._settings: dict[str, object] = {
            name: value
            for name, value in settings.items()
            if name in _KEPT_SETTINGS or name.startswith("ssl_")
        }
        if known is _TlsConnection:
            # redis-py 5 does not check the name unless it is told to.
            checks = settings.get("ssl_cert_reqs", "required") not in _NO_VERIFICATION
            self._settings["ssl_check_hostname"] = checks and settings.get(
                "ssl_check_hostname", True
            )
        self._settings |= {
            "socket_timeout": socket_timeout,
            "socket_connect_timeout": socket_timeout,
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
            "protocol": 2,
            "decode_responses": False,
            **_NO_INTRODUCTION,
        }
        self._check_settings()

    def _check_settings(self) -> None:
        try:
            self._connection_type(**self._settings)  # it does not connect yet
        except (RedisError, TypeError, ValueError):
            pass  # its text is dropped: it may show a setting
        else:
            return
        raise ValueError("client_or_url has a setting for its connections that redis-py refuses")

    def at(self, host: str, port: int) -> "Server":
        """Return another server, for which the same settings hold."""
        other = object.__new__(Server)
        other._connection_type = self._connection_type
        other._settings = self._settings | {"host": host, "port": port}
        return other

    @property
    def host(self) -> str:
        """Its host; empty for a Unix socket."""
        return str(self._settings.get("host", "" if "path" in self._settings else "localhost"))

    def connect(self, name: str = "") -> _Connection:
        """Return a new connection.

        Args:
            name: What the server calls it in its CLIENT LIST, if it lets the user name it.
        """
        connection = self._connection_type(**self._settings)
        try:
            connection.connect()
            if name:
                connection.send_command("CLIENT", "SETNAME", name)
                _read_name_is_set(connection)
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def __str__(self) -> str:
        if "path" in self._settings:
            return one_line(f"unix:{self._settings['path']}")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return one_line(f"{host}:{self._settings.get('port', 6379)}")

    def __repr__(self) -> str:
        return f"<Server {self}>"


def _read_name_is_set(connection: _Connection) -> None:
    """Read the answer to CLIENT SETNAME, which not every user may send."""
    try:
        connection.read_response()
    except ResponseError as error:
        if is_protected(error):  # it answers nothing else, and ends the connection
            raise
