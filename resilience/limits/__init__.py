"""Rate limits of regions and their tenants: `now` in, decisions out, as with the circuit.

- `rate_limit`: what a server allows, and what one answer says about it.
- `throttle`: the wait of one tenant that was refused; `tenant_table`: those of a whole region.
- `pace`: when the next request may start, so that none is refused; `adaptive_rate` finds the rate
  out where nobody says it.
- `drain`: works off a backlog at a pace, and says how long it takes; `meter` measures what arrives.
"""

from resilience.limits.adaptive_rate import AdaptiveRate
from resilience.limits.drain import Drain, DrainEstimate, DrainReport
from resilience.limits.meter import Meter
from resilience.limits.pace import Pace
from resilience.limits.rate_limit import LimitReading, RateLimit, shared_limit
from resilience.limits.tenant_table import TenantTable, ThrottledTenants
from resilience.limits.throttle import (
    LONGEST_WAIT,
    TenantProbe,
    Throttle,
)

__all__ = [
    "LONGEST_WAIT",
    "AdaptiveRate",
    "Drain",
    "DrainEstimate",
    "DrainReport",
    "LimitReading",
    "Meter",
    "Pace",
    "RateLimit",
    "TenantProbe",
    "TenantTable",
    "Throttle",
    "ThrottledTenants",
    "shared_limit",
]
