"""Finding the server to connect to: one of known servers, or the one that Sentinels name.

Each attempt to connect begins here, so that a fail-over is followed as soon as the connection to
the old primary has failed. Only the addresses are found out this way, each over a new connection
that waits no longer than the others do.
"""

import re
from collections.abc import Sequence
from contextlib import closing
from typing import Final, Protocol

import redis

from resilience._text import one_line
from resilience.integrations.redis.fault import NoPrimaryError, describe_fault
from resilience.integrations.redis.server import Server

# What a node of a cluster answers that is not responsible for the keys.
_MOVED: Final = re.compile(r"(?:MOVED )?\d+ (.{0,255}):(\d{1,5})")
_UNKNOWN_HOST: Final = ("", "?")


class Discovery(Protocol):
    """Finds the server to connect to next."""

    def locate(self) -> Server:
        """Return the server to connect to."""
        ...

    def follow(self, error: BaseException) -> bool:
        """Return whether the error of a connection only says that another server has the keys."""
        ...

    def __str__(self) -> str: ...


class KnownServers:
    """One server, or the nodes of a cluster, one of which is responsible for all keys.

    Args:
        servers: They are tried in turn. A node of a cluster that is not responsible for the keys
            names the one that is.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._attempts = 0
        self._located = servers[0]
        self._moved_to: Server | None = None

    def locate(self) -> Server:
        """Return the node that another one has named, or else the next one."""
        if self._moved_to is not None:
            self._located, self._moved_to = self._moved_to, None
        else:
            self._located = self._servers[self._attempts % len(self._servers)]
            self._attempts += 1
        return self._located

    def follow(self, error: BaseException) -> bool:
        """Go where the node has pointed to; return whether that is all that the error says."""
        moved = _MOVED.fullmatch(str(error)) if isinstance(error, redis.ResponseError) else None
        if moved is None:
            return False
        host = self._located.host if moved[1] in _UNKNOWN_HOST else moved[1]
        self._moved_to = self._located.at(host, int(moved[2]))
        # A node that was pointed to should not point to yet another one.
        return self._located in self._servers

    def __str__(self) -> str:
        return str(self._located)


class SentinelService:
    """The primary of a service, as its Sentinels name it.

    Args:
        service: The name of the service.
        sentinels: They are asked in turn.
        primary: The settings of the primary; its host and port are found out.
    """

    def __init__(self, service: str, sentinels: Sequence[Server], primary: Server) -> None:
        self._service = service
        self._sentinels = sentinels
        self._primary = primary
        self._attempts = 0
        self._located: Server | None = None

    def locate(self) -> Server:
        """Return the primary.

        The Sentinel that was asked first is asked last the next time: it may be cut off from the
        others, and not know that there was a fail-over.

        Raises:
            NoPrimaryError: No Sentinel names one.
        """
        first = self._attempts % len(self._sentinels)
        self._attempts += 1
        self._located = None
        faults: list[str] = []
        for sentinel in (*self._sentinels[first:], *self._sentinels[:first]):
            try:
                address = _ask(sentinel, self._service)
            except (redis.RedisError, OSError) as error:
                faults.append(f"{sentinel}: {describe_fault(error).text}")
                continue
            if address is not None:
                self._located = self._primary.at(*address)
                return self._located
            faults.append(f"{sentinel}: it knows of none")
        raise NoPrimaryError("; ".join(faults))

    def follow(self, error: BaseException) -> bool:  # noqa: ARG002 - they are asked in any case
        """Return False: no primary points to another one."""
        return False

    def __str__(self) -> str:
        service = f"primary of {one_line(self._service)!r}"
        return service if self._located is None else f"{service} at {self._located}"


def _ask(sentinel: Server, service: str) -> tuple[str, int] | None:
    """Return the address of the primary; None if this Sentinel does not know one."""
    with closing(_Asking(sentinel)) as asking:
        answer = asking.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
    if not isinstance(answer, list) or len(answer) != 2:  # noqa: PLR2004 - a host and a port
        return None
    host, port = answer
    if not isinstance(host, bytes) or not isinstance(port, bytes) or not port.isdigit():
        return None
    return host.decode("utf-8", "replace"), int(port)


class _Asking:
    """A connection for one question."""

    def __init__(self, server: Server) -> None:
        self._connection = server.connect()

    def ask(self, *command: object) -> object:
        self._connection.send_command(*command)
        return self._connection.read_response()

    def close(self) -> None:
        self._connection.disconnect()
