"""@region_breaker: finds the region in a call and hands the call to that region's breaker."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, ParamSpec, Protocol, TypeAlias, TypeVar

from resilience.breaker import CircuitBreaker, check_classifiers, check_guardable, guard
from resilience.checks import check_callable, check_type
from resilience.classify import Classifier, ResultClassifier, classify_error
from resilience.registry import CircuitBreakerRegistry, default_registry

P = ParamSpec("P")
T = TypeVar("T")

RegionFrom: TypeAlias = str | Callable[..., str]
_Find: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Any]

_MISSING: Any = object()
_NEVER = sys.maxsize  # the position of what comes by name only
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class RegionDecorator(Protocol):
    """What `region_breaker` returns: it keeps the signature and the types of the function."""

    def __call__(self, fn: Callable[P, T], /) -> Callable[P, T]:
        """Decorate a function."""


def region_breaker(
    *,
    region_from: RegionFrom,
    registry: CircuitBreakerRegistry | None = None,
    classifier: Classifier | None = None,
    result_classifier: ResultClassifier | None = None,
) -> RegionDecorator:
    """Give each region that a function calls a circuit breaker of its own (T10, "Scope").

    Args:
        region_from: Where a call's region is: the name of a parameter; a dotted path that starts at
            one (``"credentials.region"``: attributes, or keys of a mapping); or a function that
            takes the arguments of the call and returns the region.
        registry: Whose circuits to use; None means `default_registry`.
        classifier: Decides what an exception of this function says; None: the registry's does.
        result_classifier: Decides what a value returned by it says; None: the registry's does.

    Returns:
        A decorator for `async def` and `def`. Put it over (outside) a retry decorator, so that a
        call counts once, however many attempts it makes.

    Raises:
        TypeError: When decorating: the function has no such parameter or is of a wrong kind, or an
            argument has the wrong type. When called: the call has no region, or it is no text.
        ValueError: When called: the region is empty, or finding it failed.
        CircuitBreakerOpenError: When called, while the region's circuit admits no call.
    """
    registry = default_registry if registry is None else registry
    check_type("registry", registry, CircuitBreakerRegistry)
    check_classifiers(classifier or classify_error, result_classifier)

    def decorate(fn: Callable[P, T], /) -> Callable[P, T]:
        check_guardable(fn, "@region_breaker")
        if isinstance(region_from, str):
            find = _by_path(fn, region_from, registry)
        else:
            find = _by_function(fn, region_from, registry)
        return guard(fn, find, classifier=classifier, result_classifier=result_classifier)

    return decorate


class _Source:
    """Where the calls of a function have their region, in words for the errors."""

    def __init__(
        self, fn: Callable[..., Any], region_from: RegionFrom, registry: CircuitBreakerRegistry
    ) -> None:
        self.function = getattr(fn, "__qualname__", repr(fn))
        path = (
            region_from
            if isinstance(region_from, str)
            else getattr(region_from, "__qualname__", repr(region_from))
        )
        self.text = f"{self.function}(): region_from {path!r}"
        self.registry = registry

    def breaker(self, region: object) -> CircuitBreaker:
        """Look up a region that came with a call for the first time, or refuse it."""
        try:
            return self.registry.get(region)  # type: ignore[arg-type] # it checks what came
        except TypeError as error:
            raise TypeError(f"{self.text}: {error}") from None
        except ValueError as error:
            raise ValueError(f"{self.text}: {error}") from error.__cause__


def _by_path(fn: Callable[..., Any], region_from: str, registry: CircuitBreakerRegistry) -> _Find:
    source = _Source(fn, region_from, registry)
    name, *steps = region_from.split(".")
    if not all((name, *steps)):
        raise TypeError(f"{source.text} must be a parameter's name or a dotted path")
    signature = _signature(fn, source)
    if steps and _is_keywords(signature, name):
        name, *steps = steps  # the keyword arguments are a mapping themselves
    position, default = _parameter(signature, name, source)
    known = registry.spellings

    def find(args: tuple[Any, ...], kwargs: dict[str, Any]) -> CircuitBreaker:
        region = args[position] if position < len(args) else kwargs.get(name, default)
        if steps and region is not _MISSING:
            region = _follow(steps, region, source)
        try:
            return known[region]
        except (KeyError, TypeError):  # TypeError: it cannot be hashed, so it is no region
            if region is _MISSING:
                _refuse_missing(signature, args, kwargs, source)
            return source.breaker(region)

    return find


def _by_function(
    fn: Callable[..., Any], region_from: Callable[..., str], registry: CircuitBreakerRegistry
) -> _Find:
    check_callable("region_from", region_from, "a call's arguments and returns its region")
    source = _Source(fn, region_from, registry)
    known = registry.spellings

    def find(args: tuple[Any, ...], kwargs: dict[str, Any]) -> CircuitBreaker:
        try:
            region = region_from(*args, **kwargs)
        except Exception as error:
            raise ValueError(f"{source.text} raised {type(error).__name__}") from error
        try:
            return known[region]
        except (KeyError, TypeError):
            return source.breaker(region)

    return find


def _signature(fn: Callable[..., Any], source: _Source) -> inspect.Signature:
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        raise TypeError(
            f"{source.text} needs a function whose signature is known; give a function instead"
        ) from None


def _parameter(signature: inspect.Signature, name: str, source: _Source) -> tuple[int, Any]:
    """Find at which position an argument may come, and what stands for it when it does not."""
    parameters = list(signature.parameters.values())
    for position, parameter in enumerate(parameters):
        if parameter.name == name and parameter.kind not in _VARIADIC:
            default = _MISSING if parameter.default is parameter.empty else parameter.default
            return _NEVER if parameter.kind is parameter.KEYWORD_ONLY else position, default
    takes_any = parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    if takes_any and name not in signature.parameters:
        return _NEVER, _MISSING
    known = ", ".join(signature.parameters) or "none"
    raise TypeError(f"{source.text} starts with no parameter of the function (it has: {known})")


def _is_keywords(signature: inspect.Signature, name: str) -> bool:
    parameter = signature.parameters.get(name)
    return parameter is not None and parameter.kind is parameter.VAR_KEYWORD


def _follow(steps: list[str], region: Any, source: _Source) -> Any:
    for step in steps:
        try:
            region = region[step] if isinstance(region, Mapping) else getattr(region, step)
        except (AttributeError, KeyError):
            kind = type(region).__name__
            raise TypeError(
                f"{source.text}: there is no {step!r} in the {kind} that came"
            ) from None
        except Exception as error:
            raise ValueError(f"{source.text}: {step!r} raised {type(error).__name__}") from error
    return region


def _refuse_missing(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any], source: _Source
) -> NoReturn:
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{source.function}() {error}") from None
    raise TypeError(f"{source.text}: the call has no such argument")
