"""RedisSharing: the circuits of many processes follow what one of them finds out."""

import os
import secrets
import socket
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final
from weakref import WeakSet, finalize, ref

from resilience import log
from resilience._lock import lock, postpone
from resilience._text import one_line
from resilience._validate import check_count, check_seconds, check_type, shown
from resilience.breaker import CircuitBreaker
from resilience.integrations.redis.address import Address
from resilience.integrations.redis.fault import describe_fault
from resilience.integrations.redis.members import Member, Members
from resilience.integrations.redis.protocol import RecordProtocol, check_prefix
from resilience.integrations.redis.synchronizer import Synchronizer
from resilience.integrations.redis.timing import Timing
from resilience.policy import BreakerPolicy
from resilience.shared_circuit import SharedCircuit

if TYPE_CHECKING:
    import redis
    import redis.asyncio

_MAX_QUORUM: Final = 50
_MAX_HOST: Final = 64
# The holder of a lease must have the time for this many time-outs before it runs out.
_TIMEOUTS_PER_LEASE: Final = 4
# `close` waits this many time-outs for the synchronizer.
_TIMEOUTS_TO_CLOSE: Final = 6


class RedisSharing:
    """Shares the circuits of a registry with other processes, through Redis or Valkey.

    Give it to a `CircuitBreakerRegistry` as `sharing`. No call waits for the store: a thread talks
    to it, from the first breaker on. Without the store every circuit goes on alone.

    Args:
        client_or_url: The URL of the store, or a client of redis-py, sync or async. Only the
            address and the credentials of a client are used, not its connections.
        quorum: This many processes must have tripped within one recovery timeout to open the
            circuit of all; at most 50. Until then the circuit is open only in those.
        prefix: The start of all keys, and of the channel. Processes with the same prefix share
            their circuits.
        probe_lease: Seconds that the fleet's lease for probes lasts without being renewed; at
            least four times `socket_timeout`, and the same in all processes.
        poll_interval: Seconds between two polls of the store, on average. A poll makes up for
            notifications that were lost.
        socket_timeout: Seconds without an answer until the store counts as gone.
        name: Names this process in the events and logs of others, after its host and number.

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
        _check_quorum(quorum)
        check_prefix(prefix)
        _check_times(probe_lease, poll_interval, socket_timeout)
        check_type("name", name, str)
        self._address = Address(client_or_url, socket_timeout)
        self._timing = Timing(poll_interval, socket_timeout)
        self._name = one_line(name)
        self._protocol = RecordProtocol(
            prefix=prefix,
            client_id=_new_client_id(),
            client_name=_client_name(self._name),
            lease=probe_lease,
            quorum=quorum,
        )
        self._owner: ref[object] | None = None
        self._on_owner_gone: finalize[..., object] | None = None
        self._members = Members()
        self._synchronizer: Synchronizer | None = None
        self._is_closed = False
        self._failed_start_is_logged = False
        _instances.add(self)

    # For the registry

    @property
    def is_closed(self) -> bool:
        """Whether it has stopped sharing, for good."""
        return self._is_closed

    def bind(self, owner: object) -> None:
        """Belong to a registry from now on.

        Args:
            owner: The registry.

        Raises:
            ValueError: It belongs to another registry, or is closed.
        """
        with lock:
            if self._is_closed:
                raise ValueError("sharing is closed: make a new RedisSharing")
            bound_to = None if self._owner is None else self._owner()
            if bound_to is not None and bound_to is not owner:
                raise ValueError("sharing is in use: each registry needs its own RedisSharing")
            self._owner = reference = ref(owner)
        # Not here and now: a finalizer may run anywhere, also under the lock.
        self._on_owner_gone = finalize(owner, postpone, partial(self._release, reference))
        self._on_owner_gone.atexit = False

    def _release(self, owner: ref[object]) -> None:
        """Stop sharing for a registry that is gone."""
        with lock:
            if self._owner is not owner:  # another registry has taken its place
                return
            synchronizer, self._synchronizer = self._synchronizer, None
        if synchronizer is not None:
            synchronizer.stop(timeout=0.0)  # a call may run this, and no call waits for it

    def make_circuit(self, region: str, policy: BreakerPolicy, now: float) -> SharedCircuit:
        """Return a new circuit, which is shared from the moment its breaker joins.

        Args:
            region: The region.
            policy: The thresholds.
            now: The breaker's clock, in seconds.
        """
        notify = partial(self._notify, self._protocol.key(region))
        return SharedCircuit(policy, now, lease=self._protocol.lease, notify=notify)

    def join(self, breaker: CircuitBreaker) -> None:
        """Share the circuit of a breaker, which has come into use.

        Args:
            breaker: One with a circuit of `make_circuit`.

        Raises:
            TypeError: It has another circuit.
        """
        circuit = _shared_circuit_of(breaker)
        key = self._protocol.key(breaker.region)
        with lock:
            self._members.add(Member(key, breaker, circuit))
            self._notify(key)

    def adopt(self, breaker: CircuitBreaker) -> None:
        """Share the circuit of a breaker that another RedisSharing has shared, which is closed.

        Args:
            breaker: One with a circuit of the other one's `make_circuit`.

        Raises:
            TypeError: It has another circuit.
        """
        notify = partial(self._notify, self._protocol.key(breaker.region))
        with lock:
            _shared_circuit_of(breaker).share_again(lease=self._protocol.lease, notify=notify)
            breaker.refresh()
        self.join(breaker)

    def close(self) -> None:
        """Stop sharing, and give back what this process holds; the circuits go on alone."""
        with lock:
            synchronizer = self._synchronizer
            self._synchronizer = None
            self._is_closed = True
        if self._on_owner_gone is not None:
            self._on_owner_gone.detach()  # it would keep this object as long as the registry
        if synchronizer is not None:
            synchronizer.stop(_TIMEOUTS_TO_CLOSE * self._timing.socket_timeout)

    def __repr__(self) -> str:
        return f"<RedisSharing {self._protocol.prefix!r} as {self._protocol.client_name!r}>"

    # The synchronizer

    def _notify(self, key: str) -> None:
        """Let the synchronizer ask a circuit for its command; the caller holds the lock."""
        if self._is_closed:
            return
        if self._synchronizer is None:
            self._start()
        if self._synchronizer is not None:
            self._synchronizer.notify(key)

    def _start(self) -> None:
        """Start a synchronizer; no call fails where that is not possible; under the lock."""
        try:
            synchronizer = Synchronizer(self._address, self._protocol, self._members, self._timing)
        except OSError as error:  # no descriptors
            self._on_failed_start(describe_fault(error).text)
            return
        self._synchronizer = synchronizer
        synchronizer.start(on_failure=partial(self._on_missing_thread, synchronizer))

    def _on_missing_thread(self, synchronizer: Synchronizer) -> None:
        with lock:
            synchronizer.discard()
            if self._synchronizer is synchronizer:
                self._synchronizer = None
                self._on_failed_start("no thread can be started")

    def _on_failed_start(self, why: str) -> None:
        """Let the next call of any breaker try again."""
        for member in self._members.all():
            member.circuit.notify_with_next_call()
            member.breaker.refresh()
        if not self._failed_start_is_logged:
            self._failed_start_is_logged = True
            text = f"sharing cannot start yet, circuits go on alone: {why}"
            postpone(partial(log.log, "WARNING", "", text))  # no sink runs under the lock

    def after_fork(self) -> None:
        """Be another process, which gets its own synchronizer with the first call of a breaker."""
        if self._synchronizer is not None:
            _inherited.append(self._synchronizer)
            self._synchronizer = None
        self._failed_start_is_logged = False
        self._protocol = replace(
            self._protocol, client_id=_new_client_id(), client_name=_client_name(self._name)
        )
        for member in self._members.all():
            member.circuit.forked()
            member.breaker.refresh()


def _shared_circuit_of(breaker: CircuitBreaker) -> SharedCircuit:
    if not isinstance(breaker.circuit, SharedCircuit):
        raise TypeError(f"{breaker!r} has a circuit that no RedisSharing has made")
    return breaker.circuit


def _new_client_id() -> str:
    return secrets.token_hex(8)


def _client_name(name: str) -> str:
    host = one_line(socket.gethostname())[:_MAX_HOST]
    return "/".join(part for part in (host, str(os.getpid()), name) if part)


def _check_quorum(quorum: int) -> None:
    check_count("quorum", quorum)
    if quorum > _MAX_QUORUM:
        raise ValueError(f"quorum must be at most {_MAX_QUORUM}, got {shown(quorum)}")


def _check_times(probe_lease: float, poll_interval: float, socket_timeout: float) -> None:
    check_seconds("probe_lease", probe_lease)
    check_seconds("poll_interval", poll_interval)
    check_seconds("socket_timeout", socket_timeout)
    if probe_lease < _TIMEOUTS_PER_LEASE * socket_timeout:
        least = f"{_TIMEOUTS_PER_LEASE} times socket_timeout ({shown(socket_timeout)})"
        raise ValueError(f"probe_lease must be at least {least}, got {shown(probe_lease)}")


# A fork

_instances: WeakSet[RedisSharing] = WeakSet()
# Synchronizers of the parent. Collecting one would close what the parent's goes on using.
_inherited: list[Synchronizer] = []


def _after_fork_in_child() -> None:
    for sharing in list(_instances):
        sharing.after_fork()


if sys.platform != "win32":  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
