"""What tests of shared circuits do again and again: registries that share, and what they log."""

from contextlib import contextmanager

from resilience import BreakerPolicy, CircuitBreakerOpenError, CircuitBreakerRegistry
from resilience.integrations.redis import RedisSharing
from resilience.limits import LimitReading
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


def share_a_throttle(one, other):
    """Throttle a tenant, probe for it, and let it go, in all ways that the store knows."""
    tenants, others = one.tenants, other.tenants
    until(lambda: one.circuit.tenant_table.shared, "what is known is read")
    until(lambda: other.circuit.tenant_table.shared, "what is known is read")
    tenants.learn(LimitReading(is_throttled=True, wait=0.1), "acme")
    until(lambda: others.throttles, "it is heard")
    until(lambda: tenants.expects_call("acme") == 0.0, "it may probe")
    tenants.give_back(tenants.start("acme"))
    until(lambda: others.expects_call("acme") == 0.0, "the other one may probe")
    others.succeed(others.start("acme"))
    until(lambda: not tenants.throttles, "it has ended")


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
