"""The store through which processes share their circuits."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from resilience._extras import needs_extra

with needs_extra("--redis", "redis"):
    import redis

from resilience.circuit_states import CircuitState
from resilience.cli.target import ChangeLine, CircuitLine, TargetError
from resilience.genesys import canonical_region
from resilience.integrations.redis import Fleet, FleetCircuit
from resilience.integrations.redis.fault import describe_fault
from resilience.integrations.redis.protocol import InvalidReplyError


class StoreTarget:
    """The circuits in a store.

    Args:
        url: The URL of the store.
        prefix: The prefix of the processes' `RedisSharing`.
        name: What the processes call whoever makes a change.
    """

    missing_history = (
        "the store keeps only the last change of each region, for ten recovery timeouts;"
        " a process knows more: use --url or --socket"
    )

    def __init__(self, url: str, prefix: str, name: str) -> None:
        with _faults_explained():
            self._fleet = Fleet(url, prefix=prefix, name=name)

    def circuits(self) -> list[CircuitLine]:
        """Return the circuits that the store knows."""
        with _faults_explained():
            circuits = self._fleet.circuits()
        return [
            CircuitLine(
                registry="",
                region=circuit.region,
                state=circuit.state.value,
                seconds_in_state=circuit.seconds_in_state,
                note=_note(circuit),
            )
            for circuit in circuits
        ]

    def history(self) -> list[ChangeLine]:
        """Return the last change of each circuit that the store knows, oldest first."""
        with _faults_explained():
            circuits = self._fleet.circuits()
        now = datetime.now(UTC)
        circuits.sort(key=lambda circuit: circuit.seconds_in_state, reverse=True)
        return [
            ChangeLine(
                time=(now - timedelta(seconds=circuit.seconds_in_state)).isoformat(
                    timespec="seconds"
                ),
                registry="",
                region=circuit.region,
                old="",
                new=circuit.state.value,
                reason=_cause(circuit),
            )
            for circuit in circuits
        ]

    def force_open(self, region: str, registry: str, reason: str) -> str:
        """Hold a circuit open in all processes."""
        del registry  # a prefix is that of one registry
        name = self._name_of(region)
        with _faults_explained():
            is_known = self._fleet.force_open(name, reason)
        text = f"{name} is held open in every process until a reset"
        unknown = "; the store has not heard of this region until now: is it spelled correctly?"
        return text if is_known else text + unknown

    def reset(self, region: str, registry: str) -> str:
        """Close a circuit in all processes."""
        del registry
        name = self._name_of(region)
        with _faults_explained():
            is_known = self._fleet.reset(name)
        unknown = "; the store has not heard of this region until now: is it spelled correctly?"
        return f"{name} is CLOSED in every process" + ("" if is_known else unknown)

    def _name_of(self, region: str) -> str:
        """Return the name in the store, for a Genesys region in any spelling."""
        known = {circuit.region for circuit in self.circuits()}
        return region if region in known else canonical_region(region)


@contextmanager
def _faults_explained() -> Generator[None, None, None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise TargetError(f"the store: {describe_fault(error).text}") from None
    except InvalidReplyError:
        raise TargetError("the store has replied what it never replies") from None
    except ValueError as error:
        raise TargetError(str(error)) from None


def _note(circuit: FleetCircuit) -> str:
    if circuit.state is CircuitState.CLOSED:
        return ""
    probed = "; a probe is under way" if circuit.is_probed else ""
    return f"{_reason_and_who(circuit)}{probed}"


def _cause(circuit: FleetCircuit) -> str:
    # What a record has about a circuit that is probed is why it was opened, and who did it.
    why = _reason_and_who(circuit)
    return f"after {why}" if circuit.state is CircuitState.HALF_OPEN else why


def _reason_and_who(circuit: FleetCircuit) -> str:
    return f"{circuit.reason}, by {circuit.by}" if circuit.by else circuit.reason
