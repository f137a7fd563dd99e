"""The retries of other libraries, for the storm; they are imported here, from `.venv-bench`."""

from importlib.metadata import version
from typing import cast

import nopanic
import stamina
from stamina.instrumentation import set_on_retry_hooks

from benchmarks.calls import Send, is_failure


def stamina_title() -> str:
    """Return the name of stamina with its version."""
    return f"stamina {version('stamina')}"


def stamina_retry(fn: Send, attempts: int, pause: float) -> Send:
    """Retry with stamina, after the same pause each time.

    Args:
        fn: The function.
        attempts: The most attempts of a call.
        pause: Seconds between two attempts.
    """
    set_on_retry_hooks([])  # it would log each retry
    decorate = stamina.retry(
        on=is_failure,
        attempts=attempts,
        timeout=None,
        wait_initial=pause,
        wait_max=pause,
        wait_jitter=0,
        wait_exp_base=1,
    )
    return cast("Send", decorate(fn))


def nopanic_retry(fn: Send, attempts: int, pause: float) -> Send:
    """Retry with nopanic, after the same pause each time.

    Args:
        fn: The function.
        attempts: The most attempts of a call.
        pause: Seconds between two attempts.
    """
    return cast("Send", nopanic.retry(attempts=attempts, on=is_failure, backoff=pause)(fn))
