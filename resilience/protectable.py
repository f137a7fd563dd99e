"""What can be decorated or called under protection; an error shows how to write it instead."""

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator
from types import FunctionType, SimpleNamespace
from typing import Any, get_origin, get_type_hints
from weakref import WeakSet

from resilience._validate import (
    called_function,
    discard,
    is_async,
    is_generator,
    kind_of,
    name_of,
)

# A decorated function may wrap another one, and so on, without end.
_MOST_LAYERS = 16
_ASYNC_GENERATORS = (AsyncGenerator, AsyncIterator)
_NOT_ANNOTATED = inspect.Signature.empty
_DESCRIPTORS = (classmethod, staticmethod, property, functools.cached_property)


def check_protectable(fn: object, decorator: str, acquire: str = "") -> None:
    """Reject what cannot be decorated, and show how to write it instead.

    Args:
        fn: What is to be decorated.
        decorator: The decorator, for the error.
        acquire: The expression that acquires a permit by hand; empty: there is none.
    """
    name = name_of(fn)
    if isinstance(fn, _DESCRIPTORS):
        name = name_of(getattr(fn, "__func__", getattr(fn, "fget", fn)))
        raise TypeError(f"{decorator} goes under @{type(fn).__name__}, not over it, on {name}")
    if isinstance(fn, type) or not callable(fn):
        discard(fn)
        what = f"{kind_of(fn)}: decorate the function, do not call it" if _is_result(fn) else name
        raise TypeError(f"{decorator} decorates a function, got {what}")
    if _makes_generator(fn):
        hint = "decorate the function that makes each call"
        if acquire:
            hint = f"write `with {acquire}:` around each call inside it"
        raise TypeError(f"{decorator} cannot decorate the generator {name}: {hint}")


def check_awaitable(fn: object) -> None:
    """Reject what is known to return nothing that can be awaited, before it runs.

    That a lambda, or a function that is not written in Python, returns an awaitable is known only
    from what it returns.
    """
    called = fn if isinstance(fn, FunctionType) else called_function(fn)
    if isinstance(called, FunctionType):
        if called.__code__.co_flags & inspect.CO_COROUTINE or called in _accepted:
            return
        _check_awaitable(fn)
        _accepted.add(called)
    else:
        _check_awaitable(fn)


# Functions that are not an `async def`, and may return an awaitable all the same.
_accepted: WeakSet[FunctionType] = WeakSet()


def _check_awaitable(fn: object) -> None:
    expected = "breaker.call takes an async def and its arguments"
    if not callable(fn) or isinstance(fn, type):
        discard(fn)
        hint = ": pass the function, do not call it" if _is_result(fn) else ""
        raise TypeError(f"{expected}, got {kind_of(fn)}{hint}")
    name = name_of(fn)
    if _makes_generator(fn):
        hint = "write `with breaker.acquire():` around each call inside it"
        raise TypeError(f"{expected}, got the generator {name}: {hint}")
    if not is_async(fn) and not _may_return_awaitable(fn):
        raise TypeError(
            f"{expected}, got the plain function {name}, which was not called: decorate it with the"
            " breaker, or call it in a `with breaker.acquire():` block; if it returns an awaitable,"
            " annotate it with `-> Awaitable[...]`"
        )


def name_in_module(fn: object, thing: object, default: str) -> str:
    """Return the name that something has in the module of a function, for an error to show."""
    names: dict[str, object] = getattr(layers_of(fn)[-1], "__globals__", {})
    for name, value in list(names.items()):
        if value is thing:
            return name
    return default


def layers_of(fn: object) -> list[object]:
    """Return the functions that a call passes, as far as decorators show them, outermost first."""
    layers: list[object] = [called_function(fn)]
    while len(layers) < _MOST_LAYERS:
        wrapped: object = inspect.getattr_static(layers[-1], "__wrapped__", None)
        if wrapped is None:
            break
        layers.append(called_function(wrapped))
    return layers


def _makes_generator(fn: object) -> bool:
    """Return whether a call makes a generator, or a context manager of one: nothing runs in it."""
    layers = layers_of(fn)
    for layer, wrapped in zip(layers, [*layers[1:], None], strict=True):
        if is_generator(layer):
            return True
        if is_async(layer):
            return False  # it may use up the generator that it wraps
        # A plain function may use up a plain generator, too, unless it makes a context manager.
        if inspect.isgeneratorfunction(wrapped) and not _is_of_contextlib(layer):
            return False
    annotation = _return_annotation(layers[-1])
    return any(annotation is kind for kind in _ASYNC_GENERATORS)


def _is_of_contextlib(function: object) -> bool:
    names: dict[str, object] = getattr(function, "__globals__", {})
    return names.get("__name__") == "contextlib"


def _return_annotation(function: object) -> object:
    """Return the type that a function is annotated to return, without its parameters."""
    annotation = _annotation_as_written(function)
    return get_origin(annotation) or annotation


def _annotation_as_written(function: object) -> object:
    if not isinstance(function, FunctionType):
        return Any
    try:
        annotations: dict[str, object] = function.__annotations__
        if "return" not in annotations:
            return _NOT_ANNOTATED
        returns = SimpleNamespace(__annotations__={"return": annotations["return"]})
        return get_type_hints(returns, function.__globals__)["return"]
    except Exception:  # noqa: BLE001 - a name that only type checkers see, or anything else
        return Any


def _may_return_awaitable(fn: object) -> bool:
    layers = layers_of(fn)
    innermost = layers[-1]
    if any(map(is_async, layers)) or not isinstance(innermost, FunctionType):
        return True
    if innermost.__code__.co_name == "<lambda>":  # it has no annotation
        return True
    annotation = _return_annotation(innermost)
    if annotation is _NOT_ANNOTATED:
        return False
    if annotation is Any or annotation is object or not isinstance(annotation, type):
        return True
    return hasattr(annotation, "__await__")


def _is_result(thing: object) -> bool:
    return inspect.isawaitable(thing) or inspect.isgenerator(thing) or inspect.isasyncgen(thing)
