"""CircuitName: which circuit a line of the log is about."""

from typing import NamedTuple

#: The name of the registry that most programs have no other than.
DEFAULT_REGISTRY = "default"
#: The names of registries that no line mentions.
UNMENTIONED = ("", DEFAULT_REGISTRY)


class CircuitName(NamedTuple):
    """The region of a circuit, and the name of its registry.

    Args:
        region: The region.
        registry: The name of the registry; empty: it has none, or the circuit stands alone.
    """

    region: str
    registry: str = ""
