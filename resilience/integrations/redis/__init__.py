"""Redis and Valkey: the circuits of many processes follow what one of them finds out.

Needs redis-py: ``pip install "region-breaker[redis]"``.
"""

import os
import re
import secrets
import socket
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakSet, WeakValueDictionary

from resilience import _validate
from resilience._lock import lock
from resilience._text import one_line
from resilience.circuit import Closed
from resilience.integrations.redis.bell import Bell
from resilience.integrations.redis.connection import Address
from resilience.integrations.redis.lane import Breakers, Lane, Times
from resilience.integrations.redis.records import Records
from resilience.shared_circuit import Fleet, SharedCircuit

if TYPE_CHECKING:
    import redis
    import redis.asyncio

    from resilience.breaker import CircuitBreaker

__all__ = ["RedisSharing"]

_MOST_FOR_A_QUORUM: Final = 50
_LONGEST_HOST: Final = 64
# A holder has so many time-outs to renew its lease in.
_TIMEOUTS_IN_A_LEASE: Final = 4
# So many of them a close waits for what is under way.
_PATIENCE: Final = 6


class RedisSharing:
    """Shares the circuits of a registry with other processes, through Redis or Valkey.

    Give it to a `CircuitBreakerRegistry` as `sharing`. No call asks the store: a thread beside them
    does, from the first breaker on. Without the store every circuit goes on alone.

    Args:
        client_or_url: The URL of the store, or a client of redis-py, sync or async, whose address
            and credentials are taken; its connections are not used.
        quorum: So many processes must have tripped, within the recovery timeout, to open the
            circuit of all; at most 50. Until then each is open alone.
        prefix: Of the keys and of the channel: who shares circuits has the same.
        probe_lease: Seconds that the one place for a probe lasts without being renewed; at least
            four times `socket_timeout`, and the same in all processes.
        poll_interval: Seconds between two looks at the store, on average; what a lost message did
            not tell is found out then.
        socket_timeout: Seconds until the store counts as gone.
        name: What this process is called in the others' events and logs, besides its host and
            number.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value.
    """

    def __init__(
        self,
        client_or_url: "str | redis.Redis | redis.asyncio.Redis",
        *,
        quorum: int = 1,
        prefix: str = "region-breaker",
        probe_lease: float = 5.0,
        poll_interval: float = 5.0,
        socket_timeout: float = 0.5,
        name: str = "",
    ) -> None:
        _validate.check_count("quorum", quorum)
        if quorum > _MOST_FOR_A_QUORUM:
            raise ValueError(f"quorum must be at most {_MOST_FOR_A_QUORUM}, got {quorum}")
        if not re.fullmatch(r"[!-z|~]{1,100}", _validate.check_text("prefix", prefix)):
            expected = "1 to 100 printable ASCII characters without spaces and braces"
            raise ValueError(f"prefix must be {expected}, got {one_line(prefix)!r}")
        for which, seconds in (
            ("probe_lease", probe_lease),
            ("poll_interval", poll_interval),
            ("socket_timeout", socket_timeout),
        ):
            _validate.check_seconds(which, seconds)
        if probe_lease < _TIMEOUTS_IN_A_LEASE * socket_timeout:
            least = f"{_TIMEOUTS_IN_A_LEASE} times socket_timeout ({socket_timeout!r})"
            raise ValueError(f"probe_lease must be at least {least}, got {probe_lease!r}")
        _validate.check_type("name", name, str)
        self._address = Address(client_or_url, socket_timeout)
        self._quorum, self._prefix, self._name = quorum, prefix, name
        self._fleet = Fleet(probe_lease)
        self._times, self._socket_timeout = Times(poll_interval, socket_timeout), socket_timeout
        self._records = self._introduce()
        self._breakers: Breakers = WeakValueDictionary()
        self._lane: Lane | None = None
        self._closed = False
        _everybody.add(self)

    def join(self, breaker: "CircuitBreaker") -> None:
        """Share the circuit of a new breaker; a registry does this under the lock.

        Args:
            breaker: One that has made no call yet.

        Raises:
            ValueError: Another breaker of this region is shared already.
        """
        key = self._records.key(breaker.region)
        if key in self._breakers:
            raise ValueError("sharing is in use: each registry needs a RedisSharing of its own")
        breaker._circuit = SharedCircuit(
            breaker.policy,
            Closed(breaker._now()),
            fleet=self._fleet,
            ring=partial(self._ring, key),
        )
        self._breakers[key] = breaker
        self._ring(key)

    def close(self) -> None:
        """Stop sharing, and give back what this process holds; the circuits go on alone."""
        with lock:
            lane, self._lane, self._closed = self._lane, None, True
        if lane is not None:
            lane.stop()
            if lane.thread != threading.get_ident():  # a listener may close
                lane.ended.wait(_PATIENCE * self._socket_timeout)
            lane.leave_alone()

    def __repr__(self) -> str:
        return f"<RedisSharing {self._prefix!r} as {self._records.who!r}>"

    def _ring(self, key: str) -> None:
        if self._lane is None and not self._closed:
            self._fleet.asleep = False
            self._lane = Lane(
                self._address, self._records, self._breakers, self._times, bell=Bell()
            )
            self._lane.start()
        if self._lane is not None:
            self._lane.ring(key)

    def _introduce(self) -> Records:
        host = one_line(socket.gethostname())[:_LONGEST_HOST]
        who = "/".join(filter(None, (host, str(os.getpid()), one_line(self._name))))
        lease, quorum = self._fleet.lease, self._quorum
        return Records(self._prefix, secrets.token_hex(8), who, lease, quorum)

    def _fork(self) -> None:
        """Be another process: with a lane of its own, from the first call of a breaker on."""
        if self._lane is not None:
            # Collecting it would close what the parent's lane goes on using.
            _inherited.append(self._lane)
            self._lane = None
        self._records = self._introduce()
        self._fleet.asleep = not self._closed
        for breaker in list(self._breakers.values()):
            cast("SharedCircuit", breaker._circuit).forked()
            # Neither a call that goes well nor one that is merely counted would ring.
            breaker._passing = None
            breaker._circuit.keep_quiet()


_everybody: WeakSet[RedisSharing] = WeakSet()
_inherited: list[Lane] = []


def _fork_all() -> None:
    for sharing in list(_everybody):
        sharing._fork()


if sys.platform != "win32":  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_fork_all)
