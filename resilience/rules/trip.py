"""Trip: which rule opens a CLOSED circuit, and why."""

from enum import StrEnum
from typing import NamedTuple


class TripRule(StrEnum):
    """The rules that can trip a circuit."""

    STREAK = "streak"
    FAILURE_RATE = "failure rate"
    SLOW_CALL_RATE = "slow call rate"
    ABANDONED = "abandoned calls"


class Trip(NamedTuple):
    """The decision of a rule that the circuit opens."""

    rule: TripRule
    reason: str
