"""simulate: a scenario on virtual time, with the circuit that decides about real calls."""

import math
from dataclasses import dataclass

from resilience._validate import check_type
from resilience.circuit_events import Transition
from resilience.circuit_states import CircuitState
from resilience.explain.engine import Engine
from resilience.explain.scenario import Scenario
from resilience.policy import BreakerPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What happened in a scenario.

    Args:
        opens_after: Seconds from the beginning until the circuit opened; infinite: it did not.
        closes_after: Seconds from then until it was closed again; infinite: it was not.
        requests: Requests that reached the region, those of probes and retries included.
        requests_until_open: Those that were sent before the circuit opened; all, if it did not.
        calls: Calls that were made or rejected.
        failed: Calls that were made and did not succeed.
        rejected: Calls that were rejected.
        worst_call: Seconds that the longest call took; one that has not ended counts until the end.
        transitions: The changes of state, in order; `at` is in seconds from the beginning.
    """

    opens_after: float
    closes_after: float
    requests: int
    requests_until_open: int
    calls: int
    failed: int
    rejected: int
    worst_call: float
    transitions: tuple[Transition, ...]


def simulate(policy: BreakerPolicy, scenario: Scenario, *, seed: int | str = 0) -> Simulation:
    """Play a scenario on virtual time.

    The circuit is the one that decides about real calls, in mode "enforce". The same seed gives the
    same result.

    Args:
        policy: The rules of the circuit.
        scenario: What the region does, and how it is called.
        seed: Decides what is left to chance.

    Returns:
        What happened.

    Raises:
        TypeError: An argument has the wrong type.
    """
    check_type("policy", policy, BreakerPolicy)
    check_type("scenario", scenario, Scenario)
    check_type("seed", seed, int, str)
    engine = Engine(policy, scenario, seed)
    engine.run(until=scenario.seconds)
    changes = engine.transitions
    opened = next((one.at for one in changes if one.new is CircuitState.OPEN), math.inf)
    closed = next((one.at for one in changes if one.new is CircuitState.CLOSED), math.inf)
    return Simulation(
        opens_after=opened,
        closes_after=closed - opened if closed < math.inf else math.inf,
        requests=engine.requests,
        requests_until_open=engine.requests_until_open(),
        calls=engine.calls,
        failed=engine.failed,
        rejected=engine.rejected,
        worst_call=engine.worst_call(),
        transitions=tuple(changes),
    )
