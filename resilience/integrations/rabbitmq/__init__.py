"""RabbitMQ: message workers that lose no message, and cause no redelivery loop, in an outage.

Needs aio-pika: ``pip install "region-breaker[rabbitmq]"``. Delivery is at least once.

Where to find what:

- `region_consumer`, `shared_consumer`, `hold_when_open`: the three ways to consume.
- `consumer`, `worker`: how a consumer starts and stops; `stop_schedule`: its deadline.
- `queue_lifetime`, `consumer_timeout`, `signature`, `handler_registry`: what is checked at the
  start.
- `region_worker`: one queue of one region; `router`: a queue of several regions.
- `disposition`: what happens to a message after an attempt; `handler`: the attempt.
- `unacked`: the messages that are held; `turns`: which of them is next; `concurrency`: how many
  calls may run; `deliveries`: what is counted.
- `pacing`: when the messages of a tenant may be attempted; `held`: those that wait for it;
  `passing_over`: those that move to the end of their queue; `tenant_lookup`: whose a message is;
  `region_drain`: the backlog of an outage.
- `failure_record`: the failed attempts of a message; `evidence`: which of them count against it.
- `amqp`: where a message is acknowledged or given back to its queue; `subscription`: consuming a
  queue; `unavailability`: a queue that is away; `publisher`: moving a message to another queue;
  `topology`: what must exist beforehand.
- `connections`: those of the consumer's own, next to the user's; `encoding`: properties that keep
  their values; `frames` and `unreadable`: reading what aio-pika cannot decode.
- `consumer_warnings`: what is logged once, and not once per message.
"""

from resilience._extras import needs_extra

with needs_extra(__name__, "rabbitmq"):
    from resilience.integrations.rabbitmq.amqp import ConsumerError, MessageError
    from resilience.integrations.rabbitmq.handler import DeadLetterTo
    from resilience.integrations.rabbitmq.hold_when_open import hold_when_open
    from resilience.integrations.rabbitmq.region_consumer import RegionConsumer
    from resilience.integrations.rabbitmq.shared_consumer import SharedConsumer

__all__ = [
    "ConsumerError",
    "DeadLetterTo",
    "MessageError",
    "RegionConsumer",
    "SharedConsumer",
    "hold_when_open",
]
