"""What tests of shared circuits do again and again: registries that share, and what they log."""

from contextlib import contextmanager

from resilience import BreakerPolicy, CircuitBreakerOpenError, CircuitBreakerRegistry
from resilience.integrations.redis import RedisSharing
from tests.support.sharing_worker import REGION
from tests.support.stores import until

QUICK = {"failure_threshold": 2, "recovery_timeout": 0.5}
# Nothing recovers by itself while the test looks.
LONG = {"failure_threshold": 2, "recovery_timeout": 600.0}


@contextmanager
def registries():
    """Make registries with a RedisSharing each; the end closes them."""
    made = []

    def make(client_or_url, *, policy=LONG, **options):
        sharing = RedisSharing(client_or_url, **options)
        registry = CircuitBreakerRegistry(BreakerPolicy(**policy), sharing=sharing)
        made.append(registry)
        return registry

    try:
        yield make
    finally:
        for registry in made:
            registry.close()


def shared(registry, region=REGION):
    """Return the breaker of a region as soon as it is shared."""
    breaker = registry.get(region)
    until(lambda: breaker.snapshot().shared, "it is shared")
    return breaker


def trip(breaker):
    for _ in range(breaker.policy.failure_threshold):
        breaker.acquire().fail(TimeoutError())


def call(breaker):
    """Make a call that goes well; False: it was rejected."""
    try:
        breaker.acquire().succeed()
    except CircuitBreakerOpenError:
        return False
    return True


def lines(log, *levels):
    """Return what was logged at some levels, without the beginning that all lines have."""
    return [
        record["message"].removeprefix("Circuit breaker ")
        for record in log
        if record["level"].name in levels
    ]


def warning(log):
    """Return the first warning, as soon as it is logged."""
    return until(lambda: lines(log, "WARNING"), "a warning is logged")[0]
