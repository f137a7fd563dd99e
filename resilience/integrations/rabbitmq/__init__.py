"""RabbitMQ: message workers that lose no message, and spin on none, while a region is down.

Needs aio-pika: ``pip install "region-breaker[rabbitmq]"``. What is delivered is delivered at least
once.
"""

from resilience.integrations.rabbitmq.broker import ConsumerError
from resilience.integrations.rabbitmq.hold import hold_when_open
from resilience.integrations.rabbitmq.region import RegionConsumer
from resilience.integrations.rabbitmq.shared import SharedConsumer
from resilience.integrations.rabbitmq.work import DeadLetterTo

__all__ = ["ConsumerError", "DeadLetterTo", "RegionConsumer", "SharedConsumer", "hold_when_open"]
