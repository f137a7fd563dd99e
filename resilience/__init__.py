"""A circuit breaker per region, as a decorator, for workers that call what may go down."""

from resilience.breaker import CircuitBreaker, CircuitSnapshot
from resilience.circuit import CircuitState
from resilience.classify import classify_error, classify_status, failures
from resilience.decorator import region_breaker
from resilience.errors import CircuitBreakerOpenError, ResilienceError
from resilience.events import StateChanged
from resilience.outcome import Outcome
from resilience.permit import Permit
from resilience.policy import BreakerPolicy
from resilience.registry import CircuitBreakerRegistry, default_registry

__version__ = "0.1.0"

__all__ = [
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
    "__version__",
    "classify_error",
    "classify_status",
    "default_registry",
    "failures",
    "region_breaker",
]
