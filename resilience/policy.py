"""BreakerPolicy: the thresholds of a circuit, checked once."""

from dataclasses import dataclass

from resilience._validate import check_count, check_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a circuit opens, how long it stays open, and what closes it again.

    Args:
        failure_threshold: Consecutive failures that trip the circuit.
        recovery_timeout: Seconds from opening until the first probe.
        success_threshold: Consecutive successful probes that close the circuit.
        half_open_probes: Probes that may run at the same time.
        probe_timeout: Seconds that a probe may keep its place; None means `recovery_timeout`.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: A field is zero, negative, infinite or not a number.
    """

    failure_threshold: int = 10
    recovery_timeout: float = 60.0
    success_threshold: int = 3
    half_open_probes: int = 1
    probe_timeout: float | None = None

    def __post_init__(self) -> None:
        for name in ("failure_threshold", "success_threshold", "half_open_probes"):
            check_count(name, getattr(self, name))
        check_seconds("recovery_timeout", self.recovery_timeout)
        if self.probe_timeout is not None:
            check_seconds("probe_timeout", self.probe_timeout)

    @property
    def probe_lease(self) -> float:
        """Seconds that a probe may keep its place."""
        return self.recovery_timeout if self.probe_timeout is None else self.probe_timeout
