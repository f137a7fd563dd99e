"""@region_breaker: finds the region in a call and hands the call to that region's breaker."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import attrgetter, itemgetter
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

from resilience import _validate
from resilience._by_type import ByType
from resilience.breaker import CircuitBreaker
from resilience.classify import check_classifiers, classify_error
from resilience.judge import Classifiers
from resilience.loops import HasLoop, Retried, stop_loops_with
from resilience.outcome import Classifier, ResultClassifier
from resilience.protect import (
    NO_POSITION,
    Arguments,
    BreakerLookup,
    Keywords,
    protect,
)
from resilience.protectable import check_protectable, name_in_module
from resilience.registry import CircuitBreakerRegistry, default_registry

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])

_MISSING = inspect.Parameter.empty


class RegionDecorator(Protocol):
    """What `region_breaker` returns: it keeps the signature and the types of the function."""

    @overload
    def __call__(self, fn: HasLoop[P, T], /) -> Retried[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> Callable[P, T]: ...
    def __call__(self, fn: Callable[P, T], /) -> Any: ...  # noqa: D102 - documented on the class


@_validate.keyword_only('@region_breaker(region_from="credentials.region")')
def region_breaker(
    *,
    region_from: str | Callable[..., str],
    registry: CircuitBreakerRegistry | None = None,
    classifier: Classifier | None = None,
    result_classifier: ResultClassifier | None = None,
    stop_retries: bool = True,
) -> RegionDecorator:
    """Protect each region that a function calls with its own circuit breaker.

    Args:
        region_from: Where a call's region is: the name of a parameter; a dotted path that starts at
            one (``"credentials.region"``: attributes, or keys of a mapping); or a function that
            takes the arguments of the call and returns the region.
        registry: Whose circuits to use; None means `default_registry`.
        classifier: Classifies the exceptions of this function; None: the registry's does.
        result_classifier: Classifies the values that it returns; None: the registry's does.
        stop_retries: Whether the loop of a tenacity decorator below ends when the circuit opens, as
            with `resilience.retry.gate` between the two; False leaves it as it is.

    Returns:
        A decorator for `async def` and `def`. Put it over (outside) a retry decorator, so that a
        call counts once, however many attempts it makes.

    Raises:
        TypeError: When decorating: the function has no such parameter, or is a generator or
            anything else whose calls are over before their work begins, or an argument has the
            wrong type. When called: the call has no region, the region is not a string, or the
            function returned an async generator.
        ValueError: When called: the region is empty, or finding it failed.
        CircuitBreakerOpenError: When called, while the region's circuit admits no call.
    """
    regions = default_registry if registry is None else registry
    _validate.check_type("registry", regions, CircuitBreakerRegistry)
    asked = classify_error if classifier is None else classifier
    check_classifiers(asked, result_classifier)
    _validate.check_type("stop_retries", stop_retries, bool)
    if not isinstance(region_from, str) and not callable(region_from):
        expected = "a parameter's name, a dotted path or a callable that takes the call's arguments"
        raise TypeError(f"region_from must be {expected}, got {_validate.kind_of(region_from)}")
    classifiers: Classifiers | None = None
    if classifier is not None or result_classifier is not None or not stop_retries:
        classifiers = Classifiers(classifier, result_classifier, stop_retries)

    def decorate(fn: Callable[P, T], /) -> Any:
        acquire = _acquire_by_hand(fn, region_from, regions)
        check_protectable(fn, "@region_breaker", acquire)
        if isinstance(region_from, str):
            lookup = _lookup_by_path(fn, region_from, regions)
        else:
            lookup = _lookup_by_function(fn, region_from, regions)
        lookup = replace(lookup, acquire=acquire)
        return protect(fn, lookup, classifiers, stop_retries=stop_retries)

    return decorate


def _acquire_by_hand(fn: object, region_from: object, registry: CircuitBreakerRegistry) -> str:
    """Return the expression that acquires a permit without the decorator."""
    default = "default_registry" if registry is default_registry else "registry"
    region = region_from if isinstance(region_from, str) else "region"
    return f"{name_in_module(fn, registry, default)}.get({region}).acquire()"


def _stop_loops(fn: F, /) -> F:
    # Only where a function may have a loop, because it imports tenacity; it then takes this place.
    from resilience.retry.found import stop_found_loops  # noqa: PLC0415

    return stop_found_loops(fn)


stop_loops_with(_stop_loops)


def _lookup_by_function(
    fn: Callable[..., object], region_from: Callable[..., str], registry: CircuitBreakerRegistry
) -> BreakerLookup:
    takes = "a call's arguments and returns its region"
    _validate.check_callable("region_from", region_from, takes)
    source = _Source(fn, _validate.name_of(region_from), registry)

    def locate(args: Arguments, kwargs: Keywords) -> str:
        try:
            return region_from(*args, **kwargs)
        except Exception as error:
            raise ValueError(f"{source} raised {type(error).__name__}") from error

    return BreakerLookup(
        breakers=registry.aliases, find=source.breaker_of, locate=locate, position=NO_POSITION
    )


def _lookup_by_path(
    fn: Callable[..., object], path: str, registry: CircuitBreakerRegistry
) -> BreakerLookup:
    source = _Source(fn, path, registry)
    name, *steps = path.split(".")
    if not all((name, *steps)):
        raise TypeError(f"{source} must be a parameter's name or a dotted path")
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        raise TypeError(f"{source}: the function has no signature to look into") from None
    parameter = signature.parameters.get(name)
    by_keyword_only = False
    if steps and parameter is not None and parameter.kind is parameter.VAR_KEYWORD:
        name, *steps = steps  # the keyword arguments are a mapping themselves
        by_keyword_only = True
    argument = _Argument(signature, name, source, by_keyword_only=by_keyword_only)
    return BreakerLookup(
        breakers=registry.aliases,
        find=source.breaker_of,
        locate=argument.default_or_refuse,
        position=argument.position,
        keyword=argument.keyword,
        follow=_make_follow(steps, source),
    )


class _Source:
    """Where the calls of a function have their region.

    Args:
        fn: The function.
        path: The dotted path, or the name of the function that finds the region.
        registry: Whose circuits are used.
    """

    def __init__(
        self, fn: Callable[..., object], path: str, registry: CircuitBreakerRegistry
    ) -> None:
        self.function = _validate.name_of(fn)
        self._text = f"{self.function}(): region_from {path!r}"
        self._registry = registry

    def __str__(self) -> str:
        return self._text

    def breaker_of(self, region: object) -> CircuitBreaker:
        """Return the breaker of a region that came with a call, or refuse the region."""
        try:
            return self._registry.get(_validate.check_text("region", region))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self}: {error}") from error.__cause__


class _Argument:
    """Which argument of a call is the region, or holds it; bound as Python binds it.

    Args:
        signature: Of the function.
        name: The parameter's.
        source: For the error text.
        by_keyword_only: Whether it is one of the `**kwargs`.

    Raises:
        TypeError: The function has no such parameter.
    """

    def __init__(
        self, signature: inspect.Signature, name: str, source: _Source, *, by_keyword_only: bool
    ) -> None:
        self._signature = signature
        self._source = source
        self._default: object = _MISSING
        #: Where it may come among the positional arguments.
        self.position = NO_POSITION
        #: The name by which it may be given; None: it may not.
        self.keyword: str | None = name
        parameters = signature.parameters
        parameter = parameters.get(name)
        takes_any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        is_own = parameter is not None and parameter.kind is not parameter.POSITIONAL_ONLY
        if by_keyword_only and is_own:
            raise TypeError(f"{source}: the call's keywords never hold {name!r}, a parameter")
        if by_keyword_only or (parameter is None and takes_any_keyword):
            return
        if parameter is None or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            known = ", ".join(parameters) or "none"
            start = "does not start at a parameter of the function"
            raise TypeError(f"{source} {start} (it has: {known})")
        self._default = parameter.default
        if parameter.kind is not parameter.KEYWORD_ONLY:
            self.position = list(parameters).index(name)
        if parameter.kind is parameter.POSITIONAL_ONLY:
            self.keyword = None  # a keyword of this name goes into **kwargs

    def default_or_refuse(self, args: Arguments, kwargs: Keywords) -> object:
        """Return the default of an argument that is not given; without one, refuse the call."""
        if self._default is not _MISSING:
            return self._default
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:  # in Python's own words
            raise TypeError(f"{self._source.function}() {error}") from None
        raise TypeError(f"{self._source}: the call has no such argument")


def _make_follow(steps: list[str], source: _Source) -> Callable[[object], object] | None:
    """Return a function that follows the steps of a path; None where there are none."""
    if not steps:
        return None
    if len(steps) == 1:
        return _make_step(steps[0], source)
    functions = [_make_step(step, source) for step in steps]

    def follow(holder: object) -> object:
        for take_step in functions:
            holder = take_step(holder)
        return holder

    return follow


def _make_step(step: str, source: _Source) -> Callable[[object], object]:
    def make_getter(kind: type) -> Callable[[object], object]:
        """A mapping is asked for a key, anything else for an attribute."""
        if issubclass(kind, Mapping):
            return cast("Callable[[object], object]", itemgetter(step))
        return attrgetter(step)

    getters = ByType(make_getter)

    def take_step(holder: object) -> object:
        try:
            return getters[type(holder)](holder)
        except (AttributeError, KeyError) as error:
            raise TypeError(f"{source}: {type(holder).__name__} has no {step!r}") from error
        except Exception as error:
            raise ValueError(f"{source}: {step!r} raised {type(error).__name__}") from error

    return take_step
