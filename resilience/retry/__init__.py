"""tenacity, taught about circuits: retries that stop when the circuit of their call opens.

Inside a protected call no attempt starts unless the circuit is CLOSED, or the call is its probe,
which makes a single one. A loop that sleeps when the circuit opens is woken and ends. Outside of
any protected call everything here is plain tenacity.

`preset` and `gate` are what users write; `found` is what a circuit breaker does with a loop that it
finds. All of them give the loop the hooks in `hooks`, by way of `gated_loop`, and make the first
attempt without it, in `first_attempt`.
"""

from resilience.retry.budget import RetryBudget
from resilience.retry.conditions import is_transient, stop_unless_closed
from resilience.retry.gate import gate
from resilience.retry.preset import transient_retry
from resilience.retry.retry_after import wait_retry_after
from resilience.retry.wait_until_ready import wait_until_ready

__all__ = [
    "RetryBudget",
    "gate",
    "is_transient",
    "stop_unless_closed",
    "transient_retry",
    "wait_retry_after",
    "wait_until_ready",
]
