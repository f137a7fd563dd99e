"""What a store knows about one region, and the commands that change it.

The store keeps one record for each region. How it is written is described at the top of
integrations/redis/script.lua.
"""

from dataclasses import dataclass
from enum import StrEnum

from resilience.circuit_states import State


class RecordState(StrEnum):
    """The state of a record, as the store spells it."""

    ABSENT = ""
    CLOSED = "C"
    OPEN = "O"
    HALF_OPEN = "H"
    FORCED = "F"


class Change(StrEnum):
    """What a command does to a record, as the script spells it."""

    TRIP = "trip"  # vote for opening; the quorum opens
    WITHDRAW = "withdraw"  # take the vote back
    TAKE = "take"  # take the lease for probes, if it is free
    RENEW = "renew"  # renew the lease, and report the successful probes
    RELEASE = "release"  # give the lease back
    CLOSE = "close"  # the probes have succeeded
    REOPEN = "reopen"  # a probe has failed
    RESET = "reset"  # closed by hand
    FORCE = "force"  # opened by hand


@dataclass(frozen=True, slots=True)
class RecordView:
    """One record as this process sees it.

    Args:
        version: Grows with each change; 0 for an absent record.
        state: The state.
        age: Seconds since the record is in this state.
        lease_left: Seconds until the lease for probes runs out.
        lease_is_mine: Whether this process holds it.
        successes: Consecutive successful probes.
        opened_by_me: Whether this process caused the state.
        by: The process that caused the state.
        reason: Why.
        done: Whether the command that this answers was carried out.
        delay: Seconds between the question and the answer.
    """

    version: int = 0
    state: RecordState = RecordState.ABSENT
    age: float = 0.0
    lease_left: float = 0.0
    lease_is_mine: bool = False
    successes: int = 0
    opened_by_me: bool = False
    by: str = ""
    reason: str = ""
    done: bool = False
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Command:
    """A change of the record, and what was known when it was decided.

    Args:
        change: What to do.
        version: The version of the record that was known.
        age: Seconds since it happened; for TRIP and REOPEN.
        successes: Consecutive successful probes; for TAKE, RENEW and RELEASE.
        reason: Why, in short.
        about: The state of the circuit at that moment.
    """

    change: Change
    version: int
    age: float
    successes: int
    reason: str
    about: State
