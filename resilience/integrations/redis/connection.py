"""The two connections to the store: one for commands, one for notifications of changes."""

import re
import selectors
from collections.abc import Sequence
from typing import Final

import redis
from redis.exceptions import NoScriptError

from resilience.integrations.redis.protocol import SCRIPT, Request
from resilience.integrations.redis.server import Server
from resilience.integrations.redis.wakeup import Wakeup

# Not epoll: the child of a fork would share it with its parent.
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)
# A version and a key.
_NOTIFICATION: Final = re.compile(rb"([0-9]{1,15}) (.{1,500})", re.DOTALL)


class CommandConnection:
    """The connection that runs the script.

    Args:
        server: Where to connect to.
        name: What the server calls the connection.
    """

    def __init__(self, server: Server, name: str = "") -> None:
        self._connection = server.connect(name)
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

    def evaluate(self, script: str, key: str, arguments: Sequence[str]) -> object:
        """Run another script, which is run rarely, and return its answer."""
        return self._ask("EVAL", script, 1, key, *arguments)

    def _ask(self, *command: object) -> object:
        self._connection.send_command(*command)
        return self._connection.read_response()

    def close(self) -> None:
        """Disconnect."""
        self._connection.disconnect()


class Notifications:
    """The connection that is notified of changes.

    A notification only says which record should be read, so that a false one does no harm.

    Args:
        server: Where to connect to.
        channel: Where changes are announced.
        name: What the server calls the connection.
    """

    def __init__(self, server: Server, channel: str, name: str = "") -> None:
        self._connection = server.connect(name)
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
