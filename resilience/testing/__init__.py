"""For tests of code that uses `resilience`: a clock and a Genesys region that a test controls."""

from typing import TYPE_CHECKING

from resilience.testing.clock import FakeClock

if TYPE_CHECKING:
    from resilience.testing.genesys import FakeGenesys

__all__ = ["FakeClock", "FakeGenesys"]


def __getattr__(name: str) -> object:
    # FakeGenesys needs aiohttp, which is an extra. Tests that use the clock alone do without it.
    if name == "FakeGenesys":
        from resilience.testing.genesys import FakeGenesys  # noqa: PLC0415 - only when asked for

        return FakeGenesys
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
