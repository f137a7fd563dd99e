"""Celery on a real RabbitMQ, with the task of the docs: nothing is lost in an outage."""

from uuid import uuid4

import pytest
from celery.contrib.testing.worker import start_worker

from resilience import CircuitState, region_breaker
from tests.support.pages import python_blocks
from tests.support.rabbitmq_broker import wait_until
from tests.support.rabbitmq_support import make_registry

REGION = "eu-west-1"


@pytest.fixture
def page(broker):
    """What the example of the page defines, with a region that fails until it is told otherwise."""
    blocks = python_blocks("how-to/message-workers.md")
    (block,) = [block for block in blocks if "from celery import Celery" in block]
    registry = make_registry(threshold=2)
    page = {"url": str(broker.url), "registry": registry, "down": True, "done": []}

    @region_breaker(region_from="region", registry=registry)
    def post(region, body):
        if page["down"]:
            raise ConnectionError(region)
        page["done"].append(body)

    page["post"] = post
    exec(block, page)
    return page


def test_the_tasks_of_a_region_that_is_down_wait_for_it(page):
    app, deliver, registry = page["app"], page["deliver"], page["registry"]
    app.conf.task_default_queue = f"celery.{uuid4().hex[:8]}"
    breaker = registry.get(REGION)
    with start_worker(app, pool="threads", concurrency=4, perform_ping_check=False):
        for number in range(30):
            deliver.delay(REGION, number)
        wait_until(lambda: breaker.state is CircuitState.OPEN, "it is open")
        wait_until(lambda: breaker.snapshot().probes >= 2, "it was probed twice")
        assert page["done"] == []
        page["down"] = False
        wait_until(lambda: len(page["done"]) == 30, "all are delivered", 60)
    assert sorted(page["done"]) == list(range(30))
