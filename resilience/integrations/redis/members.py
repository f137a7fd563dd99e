"""Members: the breakers of one process whose circuits are shared."""

import weakref
from collections.abc import Iterable
from dataclasses import dataclass

from resilience._lock import lock
from resilience.breaker import CircuitBreaker
from resilience.shared_circuit import SharedCircuit


@dataclass(frozen=True, slots=True)
class Member:
    """A breaker whose circuit is shared, and the key of its record."""

    key: str
    breaker: CircuitBreaker
    circuit: SharedCircuit


class Members:
    """The members of one process, by key; it keeps no breaker alive."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[weakref.ref[CircuitBreaker], SharedCircuit]] = {}

    def add(self, member: Member) -> None:
        """Add a member, in place of one whose breaker is gone; the caller holds the lock."""
        self._entries[member.key] = (weakref.ref(member.breaker), member.circuit)

    def all(self) -> list[Member]:
        """Return all members whose breakers are still alive."""
        with lock:
            return self.of(list(self._entries))

    def of(self, keys: Iterable[str]) -> list[Member]:
        """Return those of these members whose breakers are still alive.

        Args:
            keys: Any keys; what this takes does not depend on how many members there are.
        """
        members: list[Member] = []
        with lock:
            for key in keys:
                entry = self._entries.get(key)
                if entry is None:
                    continue
                breaker = entry[0]()
                if breaker is None:
                    del self._entries[key]
                else:
                    members.append(Member(key, breaker, entry[1]))
        return members
