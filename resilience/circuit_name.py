"""CircuitName: which circuit a line of the log is about."""

from typing import NamedTuple

#: The name of the registry that no line mentions, since most programs have no other.
DEFAULT_REGISTRY = "default"


class CircuitName(NamedTuple):
    """The region of a circuit, and the name of its registry.

    Args:
        region: The region.
        registry: The name of the registry; empty: it has none, or the circuit stands alone.
    """

    region: str
    registry: str = ""

    @property
    def is_of_another_registry(self) -> bool:
        """Whether the registry has a name, and is not the default one."""
        return self.registry not in ("", DEFAULT_REGISTRY)
