"""Two connections to the store, one for commands and one for hints.

They are redis-py's connections themselves: its client would try again, and so hold up the lane.
"""

import re
import selectors
from collections.abc import Iterator
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import NoScriptError
from redis.retry import Retry

from resilience._validate import name_of
from resilience.integrations.redis.bell import Bell
from resilience.integrations.redis.records import SCRIPT

# No epoll: the child of a fork would share it with its parent.
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)
_KINDS: Final[dict[str, Any]] = {
    kind.__name__: kind for kind in (Connection, SSLConnection, UnixDomainSocketConnection)
}
# What says where the store is and who we are; the rest is ours to choose.
_KEPT: Final = {
    "host", "port", "path", "db", "username", "password", "credential_provider", "socket_type",
    "socket_keepalive", "socket_keepalive_options",
}  # fmt: skip


# A version and a key.
_HINT: Final = re.compile(rb"([0-9]{1,15}) (.{1,500})", re.DOTALL)


class Address:
    """Where the store is, taken from a URL or a client; nothing of it is ever shown.

    Args:
        client_or_url: A URL, or a client of redis-py, sync or async.
        socket_timeout: Seconds.
    """

    def __init__(self, client_or_url: object, socket_timeout: float) -> None:
        pool = _pool_of(client_or_url)
        kind = _KINDS.get(pool.connection_class.__name__)
        if kind is None:
            known = ", ".join(_KINDS)
            got = name_of(pool.connection_class)
            raise TypeError(f"client_or_url must connect by one of {known}, got {got}")
        self._kind = kind
        given = pool.connection_kwargs
        self._settings = {
            name: value for name, value in given.items() if name in _KEPT or name.startswith("ssl_")
        }
        self._settings |= {
            "socket_timeout": socket_timeout, "socket_connect_timeout": socket_timeout,
            "retry": Retry(NoBackoff(), 0), "health_check_interval": 0, "protocol": 2,
            "decode_responses": False,
        }  # fmt: skip

    def connect(self) -> Any:
        """Connect, which may fail."""
        connection = self._kind(**self._settings)
        connection.connect()
        return connection


def _pool_of(client_or_url: Any) -> Any:
    if isinstance(client_or_url, str):
        try:
            return ConnectionPool.from_url(client_or_url)
        except ValueError:
            # Not what it says: that may be a part of the password.
            pass
        expected = "redis://, rediss:// or unix:// and a valid address"
        raise ValueError(f"client_or_url is no URL of a store, expected {expected}")
    pool = getattr(client_or_url, "connection_pool", None)
    if pool is None or not hasattr(pool, "connection_class"):
        got = type(client_or_url).__name__
        raise TypeError(f"client_or_url must be a URL or a client of redis-py, got {got}")
    return pool


class Commands:
    """The connection that runs the script."""

    def __init__(self, address: Address) -> None:
        self._connection = address.connect()
        self._digest = ""

    def run(self, keys: list[str], arguments: list[str]) -> Any:
        """Run the script and give what it says."""
        if not self._digest:
            self._digest = self._ask("SCRIPT", "LOAD", SCRIPT).decode()
        try:
            return self._ask("EVALSHA", self._digest, len(keys), *keys, *arguments)
        except NoScriptError:  # the store was flushed
            self._digest = ""
            return self._ask("EVAL", SCRIPT, len(keys), *keys, *arguments)

    def _ask(self, *command: object) -> Any:
        self._connection.send_command(*command)
        return self._connection.read_response()

    def close(self) -> None:
        """Disconnect."""
        self._connection.disconnect()


class Hints:
    """The connection that hears of changes; a hint says which record to read, no more."""

    def __init__(self, address: Address, channel: str) -> None:
        self._connection = address.connect()
        self._pings = 0
        self._connection.send_command("SUBSCRIBE", channel)
        self._connection.read_response()

    def wait(self, bell: Bell, seconds: float) -> list[tuple[str, int]]:
        """Wait for a hint, the bell or the time.

        Returns:
            The keys that hints name, and the versions that they tell of.
        """
        with _Selector() as selector:
            selector.register(bell, selectors.EVENT_READ)
            selector.register(self._connection._sock, selectors.EVENT_READ)
            selector.select(max(0.0, seconds))
        bell.silence()
        return list(self.drain())

    def drain(self) -> Iterator[tuple[str, int]]:
        """Give the keys that the hints name, and the versions that they tell of."""
        while self._connection.can_read(0):
            message = self._connection.read_response()
            kind, *_, said = message if isinstance(message, list) else ["", ""]
            if kind == b"pong":
                self._pings = 0
            elif hint := _HINT.fullmatch(said if isinstance(said, bytes) else b""):
                yield hint[2].decode("utf-8", "replace"), int(hint[1])

    def ping(self) -> None:
        """See whether the connection lives; the one before must have had its answer."""
        if self._pings:
            raise redis.ConnectionError
        self._pings += 1
        self._connection.send_command("PING")

    def close(self) -> None:
        """Disconnect."""
        self._connection.disconnect()
