"""Mistakes that can be seen when a consumer starts."""

import asyncio

from resilience import region_breaker
from resilience.integrations.rabbitmq import RegionConsumer
from tests.soak.rabbitmq_faults.site import EU, Errors, Seen, run
from tests.support.rabbitmq_support import bench_at, make_registry

OTHER_REGISTRY = make_registry()


@region_breaker(region_from=lambda _: EU, registry=OTHER_REGISTRY)
async def call_elsewhere(_message):
    """Call the region through a circuit that the consumer does not follow."""


async def handle(_message):
    """Handle a message."""


async def handle_more(_message, _more):
    """Take more than a message."""


MISTAKES = (
    {"handler": handle_more},
    {"on_error": handle},
    {"max_unacked": 120.0},  # the queue allows 60
    {"handler": call_elsewhere},
)


async def misuse(site):
    noticed = 0
    async with bench_at(site.url) as bench:
        queue = await bench.queue(x_consumer_timeout=60_000)
        for mistake in MISTAKES:
            settings = {"handler": handle, "on_error": Errors(), "max_unacked": 10.0, **mistake}
            async with site.log() as log:
                noticed += await _is_refused(queue, **settings) or bool(log)
    text = f"{noticed} of {len(MISTAKES)} mistakes refused or logged at the start"
    return Seen(text, kept=noticed == len(MISTAKES))


async def _is_refused(queue, handler, **settings):
    try:
        consumer = RegionConsumer(queue, handler, region=EU, registry=make_registry(), **settings)
    except TypeError:
        return True
    _, error = await run(consumer, lambda: asyncio.sleep(0.2))
    return error is not None
