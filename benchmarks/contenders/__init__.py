"""Every circuit breaker that is measured, each through its own idiomatic decorator."""

from benchmarks.contenders.base import CannotExpressError, Contender
from benchmarks.contenders.ours import RegionBreaker
from benchmarks.contenders.use_aiobreaker import Aiobreaker
from benchmarks.contenders.use_circuitbreaker import Circuitbreaker
from benchmarks.contenders.use_fluxgate import Fluxgate
from benchmarks.contenders.use_hyx import Hyx
from benchmarks.contenders.use_interlock import Interlock
from benchmarks.contenders.use_purgatory import Purgatory
from benchmarks.contenders.use_pybreaker import Pybreaker
from benchmarks.contenders.use_pyresilience import Pyresilience

__all__ = ["ALL", "OTHERS", "CannotExpressError", "Contender", "RegionBreaker"]

OTHERS: tuple[type[Contender], ...] = (
    Circuitbreaker,
    Pybreaker,
    Aiobreaker,
    Purgatory,
    Hyx,
    Pyresilience,
    Fluxgate,
    Interlock,
)
ALL: tuple[type[Contender], ...] = (RegionBreaker, *OTHERS)
