"""A circuit breaker per region, as a decorator, for workers whose target may go down.

A call passes these files, from the top to the bottom:

- `decorator`, `registry`: which circuit breaker a call goes through; `eviction`: which one a full
  registry drops.
- `protect`: the wrapper that every call goes through; `loops`: has its retry loops stopped.
- `breaker`, `permit`: admitting a call, and settling it; `scope`: nested calls and retry loops.
- `judge`, `classify`: what counts as a failure; `hints`: a circuit that may never open.
- `circuit`: the state machine, and its rules; `shared_circuit` follows other processes.
- `recording`, `replay`: writing down outcomes, and running them through other policies.
- `listeners`, `events`, `history`, `log`: what others learn of a change. `circuit_name`: what a
  circuit is called there.
- `retry`: tenacity, taught about circuits. `integrations`: what is plugged in. `testing`: for your
  tests. `cli`: `python -m resilience`, for operators.
"""

from resilience.breaker import CircuitBreaker
from resilience.circuit_states import CircuitState
from resilience.classify import classify_error, classify_status, failures
from resilience.decorator import region_breaker
from resilience.errors import CircuitBreakerOpenError, ResilienceError, TenantThrottledError
from resilience.events import StateChanged, TenantThrottled
from resilience.outcome import Outcome
from resilience.permit import Permit
from resilience.policy import BreakerPolicy
from resilience.recovery import Backoff
from resilience.registry import CircuitBreakerRegistry, default_registry
from resilience.snapshot import CircuitSnapshot

__version__ = "0.1.0"

__all__ = [
    "Backoff",
    "BreakerPolicy",
    "CircuitBreaker",
    "CircuitBreakerOpenError",
    "CircuitBreakerRegistry",
    "CircuitSnapshot",
    "CircuitState",
    "Outcome",
    "Permit",
    "ResilienceError",
    "StateChanged",
    "TenantThrottled",
    "TenantThrottledError",
    "__version__",
    "classify_error",
    "classify_status",
    "default_registry",
    "failures",
    "region_breaker",
]
