"""Fleet: the circuits that processes share, for operators and their tools.

It reads and changes the records in the store, as the processes do, and has no circuit itself.
"""

import re
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import unquote

from resilience._text import one_line
from resilience._validate import check_text
from resilience.circuit import RESET
from resilience.circuit_states import CircuitState, Closed
from resilience.integrations.redis.address import Address
from resilience.integrations.redis.connection import CommandConnection
from resilience.integrations.redis.protocol import (
    InvalidReplyError,
    RecordProtocol,
    Reply,
    check_prefix,
    parse_replies,
    parse_reply,
)
from resilience.shared_record import Change, Command, RecordState, RecordView

if TYPE_CHECKING:
    import redis
    import redis.asyncio

_STATES: Final = {
    RecordState.CLOSED: CircuitState.CLOSED,
    RecordState.OPEN: CircuitState.OPEN,
    RecordState.HALF_OPEN: CircuitState.HALF_OPEN,
    RecordState.FORCED: CircuitState.OPEN,
}
_RECORDS_PER_REQUEST: Final = 200
# Milliseconds. A command that reaches the store later is not carried out.
_IN_TIME: Final = 10_000
# Seconds. A record of a circuit that was closed by hand is kept for ten times as long.
_RECOVERY_TIMEOUT: Final = 60.0
_LEASE: Final = 5.0


@dataclass(frozen=True, slots=True)
class FleetCircuit:
    """What the store knows about one region.

    Args:
        region: The region; of one with a very long name, the beginning.
        state: The state of its circuit in all processes.
        forced: Whether it is held open manually.
        seconds_in_state: Seconds since it came into this state.
        reason: Why.
        by: The process that caused it: its host, number and name.
        is_probed: Whether a process holds the lease for probes.
    """

    region: str
    state: CircuitState
    forced: bool
    seconds_in_state: float
    reason: str
    by: str
    is_probed: bool


class Fleet:
    """The circuits that processes share through a store, as `RedisSharing` does.

    Args:
        client_or_url: The store, as for `RedisSharing`.
        prefix: The prefix of their `RedisSharing`.
        name: What the processes call whoever makes a change.
        socket_timeout: Seconds without an answer until the store counts as gone.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value.
        redis.RedisError: The store cannot be reached.
    """

    def __init__(
        self,
        client_or_url: "str | redis.Redis | redis.asyncio.Redis",
        *,
        prefix: str = "region-breaker",
        name: str = "operator",
        socket_timeout: float = 5.0,
    ) -> None:
        check_prefix(prefix)
        self._protocol = RecordProtocol(
            prefix=prefix,
            client_id="0" * 16,
            client_name=one_line(name),
            lease=_LEASE,
            quorum=1,
        )
        self._address = Address(client_or_url, socket_timeout)
        self._commands = CommandConnection(self._address.locate(), "region-breaker-operator")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._commands.close()

    def circuits(self) -> list[FleetCircuit]:
        """Return what the store knows, by region; a region that was always CLOSED is unknown.

        Raises:
            redis.RedisError: The store cannot be reached, or refuses to answer.
        """
        start = self._protocol.key("")
        keys = sorted(self._commands.find_keys(f"{_escaped(start)}*"))
        circuits: list[FleetCircuit] = []
        for first in range(0, len(keys), _RECORDS_PER_REQUEST):
            some = keys[first : first + _RECORDS_PER_REQUEST]
            answer = self._commands.run(self._protocol.read(some))
            for key, reply in zip(some, parse_replies(answer, len(some), 0.0), strict=True):
                if _has_ever_changed(reply):
                    region = one_line(unquote(key.removeprefix(start)))
                    circuits.append(_describe(region, reply.view))
        return circuits

    def force_open(self, region: str, reason: str) -> bool:
        """Hold the circuit of a region open in every process, until a reset.

        Args:
            region: The region, by the name that the registries of the processes give it.
            reason: Why.

        Returns:
            Whether the store knew the region.

        Raises:
            TypeError: An argument is not a string.
            ValueError: An argument is empty.
            redis.RedisError: The store cannot be reached, or refuses the change.
        """
        shown = one_line(f"forced open: {check_text('reason', reason)}")
        return self._change(region, Change.FORCE, shown)

    def reset(self, region: str) -> bool:
        """Close the circuit of a region in every process.

        Args:
            region: The region, by the name that the registries of the processes give it.

        Returns:
            Whether the store knew the region.

        Raises:
            TypeError: The region is not a string.
            ValueError: The region is empty.
            redis.RedisError: The store cannot be reached, or refuses the change.
        """
        return self._change(region, Change.RESET, RESET)

    def _change(self, region: str, change: Change, reason: str) -> bool:
        key = self._protocol.key(check_text("region", region))
        (known,) = parse_replies(self._commands.run(self._protocol.read([key])), 1, 0.0)
        command = Command(change, known.view.version, 0.0, 0, reason, Closed(0.0))
        not_after = known.store_time + _IN_TIME
        request = self._protocol.change(key, command, _RECOVERY_TIMEOUT, not_after)
        reply = parse_reply(self._commands.run(request), 0.0)
        if not reply.view.done:
            raise InvalidReplyError
        return known.view.state is not RecordState.ABSENT


def _has_ever_changed(reply: Reply) -> bool:
    """Return whether a record is of a circuit that was not always CLOSED.

    Where a quorum is needed, it may hold votes alone. It is in its state since 1970 then.
    """
    view = reply.view
    return view.state is not RecordState.ABSENT and view.age < reply.store_time / 1000


def _describe(region: str, view: RecordView) -> FleetCircuit:
    return FleetCircuit(
        region=region,
        state=_STATES[view.state],
        forced=view.state is RecordState.FORCED,
        seconds_in_state=view.age,
        reason=view.reason,
        by=view.by,
        is_probed=view.lease_left > 0,
    )


def _escaped(text: str) -> str:
    """Return a text as a pattern of the store that matches nothing else."""
    return re.sub(r"([\\*?\[\]])", r"\\\1", text)
