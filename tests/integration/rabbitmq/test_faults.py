"""The faults that the soak provokes, with the code as it is now, in a shorter form.

The soak plays the same scenarios with the code before they were mended, on RabbitMQ 3.10 and 4.0.
"""

import asyncio

import pytest

from tests.soak.rabbitmq_faults import FAULTS
from tests.soak.rabbitmq_faults.site import Site
from tests.support import rabbitmq_broker
from tests.support.needs import needs

pytestmark = pytest.mark.timeout(300)  # a watchdog


@pytest.fixture(scope="module")
def site():
    needs("rabbitmq-server of its own")
    broker = rabbitmq_broker.started_broker()
    yield Site(broker, quick=True)
    broker.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_mended(site, fault):
    seen = asyncio.run(FAULTS[fault](site))
    assert seen.kept, seen.text
