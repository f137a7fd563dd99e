"""@region_breaker: finds the region in a call and hands the call to that region's breaker."""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol, cast

from resilience import _validate, gated
from resilience.breaker import CircuitBreaker, P, T
from resilience.classify import Classifier, ResultClassifier, classify_error
from resilience.guards import Finder, InOneStep, check_guardable
from resilience.registry import CircuitBreakerRegistry, default_registry

_MISSING: Any = inspect.Parameter.empty
_NEVER = sys.maxsize  # the position of what comes by name only


class RegionDecorator(Protocol):
    """What `region_breaker` returns: it keeps the signature and the types of the function."""

    def __call__(self, fn: Callable[P, T], /) -> Callable[P, T]: ...  # noqa: D102 - said above


def region_breaker(
    *,
    region_from: str | Callable[..., str],
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
    _validate.check_type("registry", registry, CircuitBreakerRegistry)
    _validate.check_classifiers(classifier or classify_error, result_classifier)

    def decorate(fn: Callable[P, T], /) -> Callable[P, T]:
        check_guardable(fn, "@region_breaker")
        make_finder = _by_path if isinstance(region_from, str) else _by_function
        finder = make_finder(fn, region_from, _Source(fn, region_from, registry))
        return cast("Callable[P, T]", gated.protect(fn, finder, classifier, result_classifier))

    return decorate


class _Source:
    """Where the calls of a function have their region, and what an error says about it."""

    def __init__(self, fn: object, region_from: object, registry: CircuitBreakerRegistry) -> None:
        path = region_from if isinstance(region_from, str) else _validate.name_of(region_from)
        self.function = _validate.name_of(fn)
        self.text = f"{self.function}(): region_from {path!r}"
        self.registry = registry

    def breaker(self, region: Any) -> CircuitBreaker:
        """Find the breaker of a region that came with a call, or refuse the region."""
        try:
            return self.registry.get(region)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.text}: {error}") from error.__cause__


def _by_function(_: object, region_from: Any, source: _Source) -> Finder:
    _validate.check_callable(
        "region_from", region_from, "a call's arguments and returns its region"
    )

    def find(args: tuple[Any, ...], kwargs: dict[str, Any]) -> CircuitBreaker:
        try:
            region = region_from(*args, **kwargs)
        except Exception as error:
            raise ValueError(f"{source.text} raised {type(error).__name__}") from error
        return source.breaker(region)

    return Finder(find)


def _by_path(fn: Callable[..., Any], region_from: Any, source: _Source) -> Finder:
    name, *steps = region_from.split(".")
    if not all((name, *steps)):
        raise TypeError(f"{source.text} must be a parameter's name or a dotted path")
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        raise TypeError(f"{source.text}: the function has no signature to look into") from None
    parameter = signature.parameters.get(name)
    if steps and parameter is not None and parameter.kind is parameter.VAR_KEYWORD:
        name, *steps = steps  # the keyword arguments are a mapping themselves
    position, default = _place(signature, name, source)
    known = source.registry.spellings

    def find(args: tuple[Any, ...], kwargs: dict[str, Any]) -> CircuitBreaker:
        region = args[position] if position < len(args) else kwargs.get(name, default)
        if steps and region is not _MISSING:
            region = _follow(steps, region, source)
        try:
            return known[region]
        except (KeyError, TypeError):  # TypeError: it cannot be hashed, so it is no region
            if region is _MISSING:
                _refuse(signature, args, kwargs, source)
            return source.breaker(region)

    if len(steps) > 1:
        return Finder(find)
    return Finder(find, position, InOneStep(steps[0], known) if steps else known)


def _place(signature: inspect.Signature, name: str, source: _Source) -> tuple[int, Any]:
    """Find at which position an argument may come, and what stands for it when it does not."""
    parameters = signature.parameters
    parameter = parameters.get(name)
    if parameter is None and any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return _NEVER, _MISSING
    if parameter is None or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        known = ", ".join(parameters) or "none"
        raise TypeError(f"{source.text} starts with no parameter of the function (it has: {known})")
    named_only = parameter.kind is parameter.KEYWORD_ONLY
    return _NEVER if named_only else list(parameters).index(name), parameter.default


def _follow(steps: list[str], region: Any, source: _Source) -> Any:
    for step in steps:
        try:
            region = region[step] if isinstance(region, Mapping) else getattr(region, step)
        except (AttributeError, KeyError) as error:
            raise TypeError(f"{source.text}: a {type(region).__name__} has no {step!r}") from error
        except Exception as error:
            raise ValueError(f"{source.text}: {step!r} raised {type(error).__name__}") from error
    return region


def _refuse(signature: inspect.Signature, args: Any, kwargs: Any, source: _Source) -> NoReturn:
    """Say in Python's own words which argument is missing."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{source.function}() {error}") from None
    raise TypeError(f"{source.text}: the call has no such argument")
