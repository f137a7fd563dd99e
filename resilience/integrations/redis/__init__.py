"""Redis and Valkey: the circuits of many processes follow what one of them finds out.

Needs redis-py: ``pip install "region-breaker[redis]"``.
"""

from resilience.integrations.redis.sharing import RedisSharing

__all__ = ["RedisSharing"]
