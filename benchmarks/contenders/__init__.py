"""The circuit breakers that are measured, each through the decorator of its manual."""

from importlib import import_module
from typing import cast

from benchmarks.contenders.base import Contender
from benchmarks.contenders.ours import RegionBreaker

__all__ = ["NOT_MEASURED", "Contender", "RegionBreaker", "everyone", "notes"]

NOT_MEASURED = """\
## Libraries that are not measured

The tables have the libraries that a new project might choose today: those with a release in the
last two years that can be set up nearly like the others without code of one's own. Five that were
measured before are left out:

- aiobreaker 1.2.0: its last release is from May 2021.
- hyx 0.0.2: its last release is from February 2023. It takes coroutines only, and counts by type
  only. It was the nearest to circuitbreaker in cost: a fifth dearer for a success, an eighth
  cheaper for an error that does not count.
- purgatory 3.0.1: its last release is from November 2024. It raises the same exception again and
  again, whose traceback grows by 1.7 kB with each rejection.
- pyresilience 0.4.1: it counts by type only. Where a client raises one type for every status, as
  most do, either its 404 counts or its 503 does not.
- fluxgate 0.9.4: three successes in HALF_OPEN need a rule of one's own, calls next to the probe
  wait for it instead of being rejected, and a probe that hangs blocks the circuit for good. It
  was the dearest: 8 µs for a success."""


def everyone() -> tuple[type[Contender], ...]:
    """Return all contenders; the other libraries are imported here, from `.venv-bench`."""
    names = ("circuitbreaker", "pybreaker", "interlock", "nopanic")
    modules = (import_module(f"{__name__}.use_{name}") for name in names)
    return (RegionBreaker, *(cast("type[Contender]", module.CONTENDER) for module in modules))


def notes(contenders: tuple[type[Contender], ...]) -> str:
    """List what is set up in another way than the rest."""
    lines = [
        f"- {library.name}: {'; '.join(library.notes)}." for library in contenders if library.notes
    ]
    return "\n".join(("## How the other libraries are set up", "", *lines))
