"""For tests of code that uses `resilience`: a clock, open circuits, a region and a broker."""

from importlib import import_module
from typing import TYPE_CHECKING

from resilience.testing.circuits import open_circuit
from resilience.testing.clock import FakeClock
from resilience.testing.virtual_time import run_in_virtual_time

if TYPE_CHECKING:
    from resilience.testing.genesys import FakeGenesys
    from resilience.testing.rabbitmq import StubBroker

__all__ = ["FakeClock", "FakeGenesys", "StubBroker", "open_circuit", "run_in_virtual_time"]

# These need an extra, aiohttp and aio-pika. Tests that use the clock alone do without it.
_MODULES = {
    "FakeGenesys": "resilience.testing.genesys",
    "StubBroker": "resilience.testing.rabbitmq",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
