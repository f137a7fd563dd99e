"""StubBroker: a RabbitMQ in the test's own process, for tests of message handlers."""

from resilience._extras import needs_extra

with needs_extra("StubBroker", "rabbitmq"):
    from resilience.testing.rabbitmq.broker import StubBroker
    from resilience.testing.rabbitmq.queue import QueueCounts, StubMessage

__all__ = ["QueueCounts", "StubBroker", "StubMessage"]
