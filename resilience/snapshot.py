"""CircuitSnapshot: what a circuit breaker knows at one moment."""

from dataclasses import dataclass

from resilience.circuit_states import CircuitState
from resilience.limits import DrainEstimate
from resilience.mode import Mode
from resilience.rules.trip import TripRule


@dataclass(frozen=True, slots=True)
class CircuitSnapshot:
    """What a breaker knows at one moment; `dataclasses.asdict` makes it ready for JSON.

    Args:
        region: The region.
        state: The state that a call would meet now.
        since: The breaker's clock when this state began, in seconds.
        streak: Consecutive failures.
        retry_after: Seconds until a call may be admitted; None while forced open.
        reason: Why the circuit opened; None while it is CLOSED.
        successes: Calls since the start that succeeded.
        failures: Calls since the start that failed.
        answered: Calls since the start that the region answered with a refusal, such as a 404.
        ignored: Calls since the start that said nothing about the region.
        rejected: Calls since the start that were not made.
        probes: Calls since the start that were admitted in HALF_OPEN.
        trips: How often failures opened the CLOSED circuit.
        transitions: How often the state changed since the start: old state, new state, count.
        shared: Whether other processes learn what this one knows, and it learns what they know;
            None where the circuit belongs to this process alone.
        ignored_probes: Probes in a row, until now, that said nothing about the region; 0 unless the
            circuit is HALF_OPEN. While there are no others, it stays so.
        ignored_reasons: What those probes raised, in short: the last five different ones.
        throttled_tenants: Tenants of the region that wait, because it throttles them.
        longest_wait: Seconds that the last of those tenants still waits.
        drain: How far a message worker is with the backlog of an outage; None: there is no drain.
        mode: The mode of the policy. In "observe" the state and the rejected calls are what they
            would be, and every call is made; in "off" the circuit is not used.
        trips_by_rule: How often each rule opened the CLOSED circuit: the rule, the count.
        registry: The name of the registry; empty if it has none.
    """

    region: str
    state: CircuitState
    since: float
    streak: int
    retry_after: float | None
    reason: str | None
    successes: int
    failures: int
    answered: int
    ignored: int
    rejected: int
    probes: int
    trips: int
    transitions: tuple[tuple[CircuitState, CircuitState, int], ...] = ()
    shared: bool | None = None
    ignored_probes: int = 0
    ignored_reasons: tuple[str, ...] = ()
    throttled_tenants: int = 0
    longest_wait: float = 0.0
    drain: DrainEstimate | None = None
    mode: Mode = Mode.ENFORCE
    trips_by_rule: tuple[tuple[TripRule, int], ...] = ()
    registry: str = ""
