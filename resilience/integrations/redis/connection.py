"""The two connections to the store: one for commands, one for notifications of changes."""

import hashlib
import time
from functools import cache
from typing import Final

import redis
from redis.exceptions import NoScriptError

from resilience.integrations.redis.notification import ABOUT_TENANT, Notification, newest
from resilience.integrations.redis.protocol import InvalidReplyError, Request
from resilience.integrations.redis.server import Server
from resilience.integrations.redis.subscription import SubscriptionReader

# Seconds. A connection that the store has ended earlier, without an answer, is not made again.
_LASTS: Final = 0.5
# Notifications are followed after this many times, however many more there are.
_TIMES_IN_A_ROW: Final = 16
_KEYS_AT_A_TIME: Final = 1000


class CommandConnection:
    """The connection that runs the scripts.

    Stores and what stands before them end connections that have been idle. That is noticed
    immediately, and is not a loss of the store if it can be connected to again.

    Args:
        server: Where to connect to.
        name: What the server calls the connection.
    """

    def __init__(self, server: Server, name: str = "") -> None:
        self._server, self._name = server, name
        self._connect()

    def _connect(self) -> None:
        self._connection = self._server.connect(self._name)
        self._connected_at, self._peer = time.monotonic(), self._connection.peer()
        self._has_answered = False

    def run(self, request: Request) -> object:
        """Run a script and return its answer.

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
        """Connect again, unless the error has come as soon as the connection was made.

        Where the name leads to another server by now, the connection for notifications is with the
        wrong one: that is a loss, after which both are made again.
        """
        if not self._has_answered and time.monotonic() - self._connected_at < _LASTS:
            raise error
        peer = self._peer
        self._connection.disconnect()
        self._connect()
        if self._peer != peer:
            raise error

    def _run(self, request: Request) -> object:
        keys_and_arguments = (len(request.keys), *request.keys, *request.arguments)
        try:
            return self._ask("EVALSHA", _digest(request.script), *keys_and_arguments)
        except NoScriptError:  # the store is new, or was flushed
            return self._ask("EVAL", request.script, *keys_and_arguments)

    def find_keys(self, pattern: str) -> set[str]:
        """Return the keys that match a pattern, without holding up the store for long.

        Raises:
            InvalidReplyError: The store has replied what it never replies.
        """
        found: set[str] = set()
        cursor: object = b"0"
        while True:
            answer = self._ask("SCAN", cursor, "MATCH", pattern, "COUNT", _KEYS_AT_A_TIME)
            if not isinstance(answer, list) or len(answer) != 2:  # noqa: PLR2004 - cursor and keys
                raise InvalidReplyError
            cursor, keys = answer
            found.update(key.decode("utf-8", "replace") for key in keys)
            if cursor == b"0":
                return found

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

    Args:
        server: Where to connect to.
        channel: Where changes are announced.
        name: What the server calls the connection.

    Attributes:
        are_pending: Whether more of them had arrived than `read` has read.
        of_tenants: Those about tenants that `read` has read, of which nothing is believed yet.
    """

    def __init__(self, server: Server, channel: str, name: str = "") -> None:
        self._connection = server.connect(name)
        self._reader = SubscriptionReader(channel)
        self.are_pending = False
        self.of_tenants: list[bytes] = []
        try:
            self._connection.send_command("SUBSCRIBE", channel)
            while not self._reader.is_confirmed:
                self._reader.feed(self._connection.receive(waits=True))
        except BaseException:
            self.close()
            raise

    def read(self) -> dict[str, Notification]:
        """Return the newest notification for each region's key, without waiting."""
        contents: list[bytes] = []
        for _ in range(_TIMES_IN_A_ROW):
            received = self._connection.receive(waits=False)
            if not received:
                self.are_pending = False
                break
            contents += self._reader.feed(received)
        else:
            self.are_pending = True
        self.of_tenants = [one for one in contents if one.startswith(ABOUT_TENANT)]
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


@cache
def _digest(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
