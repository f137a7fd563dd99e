"""Redis and Valkey: the circuits of many processes follow what one of them finds out.

Needs redis-py: ``pip install "region-breaker[redis]"``.

- `sharing`: what a registry uses, and forks. `synchronizer`: the thread that talks to the store.
- `connection`, `wakeup`: its connections, and how a call wakes it.
- `protocol`, `script.lua`: the records in the store; the first lines of the script list what is
  written. The rules that a circuit follows are in `resilience.shared_circuit`.
"""

from resilience.integrations.redis.sharing import RedisSharing

__all__ = ["RedisSharing"]
