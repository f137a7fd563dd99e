"""Redis and Valkey: the circuits of many processes follow what one of them finds out.

Needs redis-py: ``pip install "region-breaker[redis]"``.

- `sharing`: what a registry uses, and forks. `synchronizer`: the thread that talks to the store.
- `connection`, `subscription`, `backoff`, `wakeup`: its connections, what arrives on them, when it
  connects again, and how a call wakes it.
- `protocol`, `notification`, `script.lua`: the records in the store and what is announced about
  them; the first lines of the script list what is written. The rules that a circuit follows are in
  `resilience.shared_circuit`. `scripts` reads the Lua files; `common.lua` is what each begins
  with.
- `fleet`: the same records for operators, without a circuit.
- `throttles`, `throttle_protocol`, `throttles.lua`: the same for tenants that are throttled; their
  rules are in `resilience.shared_tenant_table`.
"""

from resilience._extras import needs_extra

with needs_extra(__name__, "redis"):
    from resilience.integrations.redis.fleet import Fleet, FleetCircuit
    from resilience.integrations.redis.sharing import RedisSharing

__all__ = ["Fleet", "FleetCircuit", "RedisSharing"]
