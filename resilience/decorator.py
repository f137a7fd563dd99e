"""@region_breaker: finds the region in a call and hands the call to that region's breaker."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, cast, overload

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
from resilience.protect_fallback import protect_with_fallback
from resilience.protect_tenants import TenantLookup, protect_with_tenants
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
    tenant_from: str | Callable[..., str] | None = None,
    on_throttled: Literal["reject", "wait"] = "reject",
    fallback: Callable[..., Any] | None = None,
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
        tenant_from: Where a call's tenant is, written as the region is; None: calls have none. When
            the region answers a call with 429, it is called no more for that tenant until the time
            is over that it asked for, and then by one call first. Other tenants go on.
        on_throttled: What calls of a throttled tenant do: ``"reject"`` raises
            `TenantThrottledError`, ``"wait"`` waits for the tenant's turn. A `def` that waits
            blocks its thread.
        fallback: Called in place of a call that the circuit rejects, with the rejection and the
            arguments of the call; what it returns is what the call returns. An `async def` for an
            `async def`. It is never called for what the function itself raises. Not together with
            `tenant_from`.

    Returns:
        A decorator for `async def` and `def`. Put it over (outside) a retry decorator, so that a
        call counts once, however many attempts it makes.

    Raises:
        TypeError: When decorating: the function has no such parameter, or is a generator or
            anything else whose calls are over before their work begins, or an argument has the
            wrong type. When called: the call has no region or no tenant, one of them is not a
            string, or the function returned an async generator.
        ValueError: `on_throttled` has another value. When called: the region or the tenant is
            empty, or finding it failed.
        CircuitBreakerOpenError: When called, while the region's circuit admits no call.
        TenantThrottledError: When called, while the region throttles the call's tenant.
    """
    regions = default_registry if registry is None else registry
    _validate.check_type("registry", regions, CircuitBreakerRegistry)
    asked = classify_error if classifier is None else classifier
    check_classifiers(asked, result_classifier)
    _validate.check_type("stop_retries", stop_retries, bool)
    _check_from("region_from", region_from)
    if tenant_from is not None:
        _check_from("tenant_from", tenant_from)
    _check_on_throttled(on_throttled)
    _check_fallback(fallback, tenant_from)
    classifiers: Classifiers | None = None
    if classifier is not None or result_classifier is not None or not stop_retries:
        classifiers = Classifiers(classifier, result_classifier, stop_retries)

    def decorate(fn: Callable[P, T], /) -> Any:
        acquire = _acquire_by_hand(fn, region_from, regions)
        check_protectable(fn, "@region_breaker", acquire)
        source = _Source(fn, region_from, "region_from")
        place = _place_of(fn, region_from, source)
        lookup = BreakerLookup(
            breakers=regions.aliases,
            find=partial(_find_breaker, regions, source),
            locate=place.locate,
            position=place.position,
            keyword=place.keyword,
            follow=place.follow,
            acquire=acquire,
        )
        make_wrapper = None
        if tenant_from is not None:
            tenants = _tenant_lookup(fn, tenant_from, waits=on_throttled == "wait")
            make_wrapper = protect_with_tenants(tenants)
            regions.expect_tenants()
        elif fallback is not None:
            _check_colour(fn, fallback)
            make_wrapper = protect_with_fallback(fallback)
        return protect(
            fn, lookup, classifiers, stop_retries=stop_retries, make_wrapper=make_wrapper
        )

    return decorate


def _check_from(option: str, value: object) -> None:
    if not isinstance(value, str) and not callable(value):
        expected = "a parameter's name, a dotted path or a callable that takes the call's arguments"
        raise TypeError(f"{option} must be {expected}, got {_validate.kind_of(value)}")


def _check_on_throttled(value: object) -> None:
    _validate.check_type("on_throttled", value, str)
    if value not in ("reject", "wait"):
        raise ValueError(f"on_throttled must be 'reject' or 'wait', got {_validate.shown(value)}")


def _check_fallback(fallback: object, tenant_from: object) -> None:
    if fallback is None:
        return
    if not callable(fallback):
        expected = "a callable that takes the rejection and a call's arguments"
        raise TypeError(f"fallback must be {expected}, got {_validate.kind_of(fallback)}")
    if tenant_from is not None:
        raise TypeError("fallback does not go with tenant_from: catch the rejection of the call")


def _check_colour(fn: object, fallback: object) -> None:
    """Reject a fallback whose result the callers of a function would not expect."""
    if _validate.is_async(fn) and not _validate.is_async(fallback):
        expected = f"an async def, as {_validate.name_of(fn)} is one"
        raise TypeError(f"fallback must be {expected}, got {_validate.name_of(fallback)}")
    if not _validate.is_async(fn) and _validate.is_async(fallback):
        expected = f"a plain function, as {_validate.name_of(fn)} is one"
        raise TypeError(f"fallback must be {expected}, got the async {_validate.name_of(fallback)}")


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


class _Source:
    """Where the calls of a function have their region, or their tenant.

    Args:
        fn: The function.
        path: The dotted path, or the function that finds it.
        option: The option of the decorator that says so.
    """

    def __init__(self, fn: Callable[..., object], path: object, option: str) -> None:
        self.function = _validate.name_of(fn)
        self.option = option
        #: "region" or "tenant"
        self.what = option.removesuffix("_from")
        shown = path if isinstance(path, str) else _validate.name_of(path)
        self._text = f"{self.function}(): {option} {shown!r}"

    def __str__(self) -> str:
        return self._text

    def checked(self, value: object) -> str:
        """Return a name that came with a call as a plain string, or refuse it."""
        try:
            return _validate.check_text(self.what, value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self}: {error}") from None


def _find_breaker(
    registry: CircuitBreakerRegistry, source: _Source, region: object
) -> CircuitBreaker:
    """Return the breaker of a region that came with a call, or refuse the region."""
    try:
        return registry.get(_validate.check_text("region", region))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{source}: {error}") from error.__cause__


def _tenant_lookup(
    fn: Callable[..., object], tenant_from: str | Callable[..., str], *, waits: bool
) -> TenantLookup:
    source = _Source(fn, tenant_from, "tenant_from")
    place = _place_of(fn, tenant_from, source)

    def find(args: Arguments, kwargs: Keywords) -> str:
        if place.position < len(args):
            tenant = args[place.position]
        elif place.keyword in kwargs:
            tenant = kwargs[place.keyword]
        else:
            tenant = place.locate(args, kwargs)
        return source.checked(tenant if place.follow is None else place.follow(tenant))

    is_near = place.follow is None or place.getters is not None
    return TenantLookup(
        find=find,
        check=source.checked,
        position=place.position if is_near else NO_POSITION,
        getters=place.getters,
        waits=waits,
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the arguments of a call something is; see `BreakerLookup`.

    Args:
        getters: The same as `follow` where that is one step, by the type of the holder.
    """

    locate: Callable[[Arguments, Keywords], object]
    position: int = NO_POSITION
    keyword: str | None = None
    follow: Callable[[object], object] | None = None
    getters: ByType[Callable[[object], object]] | None = None


def _place_of(
    fn: Callable[..., object], where: str | Callable[..., str], source: _Source
) -> _Place:
    if isinstance(where, str):
        return _place_by_path(fn, where, source)
    return _place_by_function(where, source)


def _place_by_function(where: Callable[..., str], source: _Source) -> _Place:
    takes = f"a call's arguments and returns its {source.what}"
    _validate.check_callable(source.option, where, takes)

    def locate(args: Arguments, kwargs: Keywords) -> str:
        try:
            return where(*args, **kwargs)
        except Exception as error:
            raise ValueError(f"{source} raised {type(error).__name__}") from error

    return _Place(locate)


def _place_by_path(fn: Callable[..., object], path: str, source: _Source) -> _Place:
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
    return _Place(
        locate=argument.default_or_refuse,
        position=argument.position,
        keyword=argument.keyword,
        follow=_make_follow(steps, source),
        getters=_make_getters(steps[0]) if len(steps) == 1 else None,
    )


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


def _make_getters(step: str) -> ByType[Callable[[object], object]]:
    """Return what takes one step, by the type of the holder."""

    def make_getter(kind: type) -> Callable[[object], object]:
        """A mapping is asked for a key, anything else for an attribute."""
        if issubclass(kind, Mapping):
            return cast("Callable[[object], object]", itemgetter(step))
        return attrgetter(step)

    return ByType(make_getter)


def _make_step(step: str, source: _Source) -> Callable[[object], object]:
    getters = _make_getters(step)

    def take_step(holder: object) -> object:
        try:
            return getters[type(holder)](holder)
        except (AttributeError, KeyError) as error:
            raise TypeError(f"{source}: {type(holder).__name__} has no {step!r}") from error
        except Exception as error:
            raise ValueError(f"{source}: {step!r} raised {type(error).__name__}") from error

    return take_step
