"""Noticing that a handler's calls go through circuits of another registry than its consumer's."""

import inspect
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType

from resilience._text import one_line
from resilience._validate import called_function, name_of
from resilience.breaker import CircuitBreaker
from resilience.protect import BreakerLookup, lookup_of
from resilience.registry import CircuitBreakerRegistry

# A decorated function may wrap another one, and so on, without end.
_MOST_LAYERS = 16


def warn_of_other_registry(
    handler: object, registry: CircuitBreakerRegistry, warn: Callable[[str], object]
) -> None:
    """Warn if all protected functions that a handler is seen to call are of other registries.

    What a handler calls is seen if it is protected itself, or names a protected function that is
    global, in a function around it, or a method of its own object.

    Args:
        handler: The user's handler.
        registry: The registry that the handler's circuits should be of.
        warn: Logs what the one that the handler was given to does.
    """
    seen = {
        name: lookup
        for name, function in _named_by(handler)
        if (lookup := lookup_of(function)) is not None
    }
    if not seen or any(_is_of(registry, lookup) for lookup in seen.values()):
        return
    warn(
        f"follows circuits of another registry than those that calls of "
        f"{one_line(', '.join(sorted(seen)))} go through: it will not notice that they open; "
        "pass the same registry to both"
    )


def _is_of(registry: CircuitBreakerRegistry, lookup: BreakerLookup) -> bool:
    if lookup.breakers is registry.aliases:
        return True
    for breaker in list(lookup.breakers.values()):
        if isinstance(breaker, CircuitBreaker) and breaker.region in registry:
            return registry.get(breaker.region) is breaker
    return False


def _named_by(handler: object) -> Iterator[tuple[str, object]]:
    """Yield the handler, and what it names, as far as that can be seen without calling it."""
    yield name_of(handler), handler
    owner = handler.__self__ if isinstance(handler, MethodType) else None
    layer = called_function(handler)
    for _ in range(_MOST_LAYERS):
        if not isinstance(layer, FunctionType):
            return
        yield name_of(layer), layer
        yield from _variables_of(layer)
        if owner is not None:
            for name in layer.__code__.co_names:
                yield name, inspect.getattr_static(type(owner), name, None)
        layer = called_function(getattr(layer, "__wrapped__", None))


def _variables_of(function: FunctionType) -> Iterator[tuple[str, object]]:
    try:
        variables = inspect.getclosurevars(function)
    except ValueError:  # A variable of a function around it has no value yet.
        return
    yield from variables.nonlocals.items()
    yield from variables.globals.items()
