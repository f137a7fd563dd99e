"""The events that listeners receive: StateChanged and TenantThrottled."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from resilience.circuit_events import Transition


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(Transition):
    """A circuit changed its state.

    Args:
        region: The region whose circuit changed.
        old: The state before; it equals `new` of the event before.
        new: The state now.
        reason: Why, in short; never the text of an exception.
        at: The breaker's clock at that moment, in seconds.
        time: The time of day, with its time zone.
        streak: Consecutive failures at that moment.
        retry_after: Seconds until a call may be admitted; None while forced open.
        rejected: Calls that were rejected in the old state.
        duration: Seconds that the old state lasted.
        by: Where circuits are shared and another process caused the change: its host, process
            number and name; else None.
        rule: The rule that tripped the CLOSED circuit, where it was tripped in this process; else
            None.
        mode: The mode of the policy. In "observe" the circuit rejects nobody, whatever its state.
        registry: The name of the circuit's registry; empty if it has none.
    """

    region: str
    time: datetime
    registry: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantThrottled:
    """A region throttled a tenant, or a throttle ended.

    Args:
        region: The region.
        tenant: The tenant.
        wait: Seconds until a call of the tenant may be made; 0: its throttle has ended.
        at: The breaker's clock at that moment, in seconds.
        time: The time of day, with its time zone.
        registry: The name of the region's registry; empty if it has none.
    """

    region: str
    tenant: str
    wait: float
    at: float
    time: datetime
    registry: str = ""


Listener: TypeAlias = Callable[[StateChanged], object]
