"""Refusing a handler, or an `on_error`, that cannot be awaited with what it would be given."""

import inspect
from collections.abc import Callable
from typing import cast

from resilience import _validate
from resilience.protect import wrapped_by_protection

A_MESSAGE = "a message"
A_MESSAGE_AND_AN_ERROR = "a message and an error"
_COUNTS = {A_MESSAGE: 1, A_MESSAGE_AND_AN_ERROR: 2}


def check_async(name: str, value: object, takes: str, other: str = "") -> None:
    """Reject a value that is not an `async def`, or that takes other arguments.

    Args:
        name: The argument's name.
        value: The argument.
        takes: What the function has to take: `A_MESSAGE` or `A_MESSAGE_AND_AN_ERROR`.
        other: What else the argument may be, for the error's text.

    Raises:
        TypeError: The value cannot be called this way, or a call of it cannot be awaited.
    """
    _check_awaitable(name, value, f"{takes}{other}")
    parameters = _parameters_of(value)
    if parameters is not None and not _accepts(parameters, _COUNTS[takes]):
        raise TypeError(
            f"{name} must be an async def that takes {takes}{other} and needs nothing else, "
            f"got {_validate.name_of(value)}({', '.join(parameters.parameters)})"
        )


def check_decorated(name: str, value: object) -> None:
    """Reject a function that is not an `async def`, or that can take no message.

    A method has further parameters when it is decorated, and a function may get them afterwards.

    Args:
        name: The decorator's name.
        value: The function.

    Raises:
        TypeError: The function has no positional parameter, or a call of it cannot be awaited.
    """
    _check_awaitable(name, value, A_MESSAGE)
    parameters = _parameters_of(value)
    if parameters is None:
        return
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    if not any(one.kind in positional for one in parameters.parameters.values()):
        raise TypeError(
            f"{name} must be an async def that takes {A_MESSAGE}, "
            f"got {_validate.name_of(value)}({', '.join(parameters.parameters)})"
        )


def _check_awaitable(name: str, value: object, takes: str) -> None:
    if not callable(value):
        kind = type(value).__name__
        raise TypeError(f"{name} must be an async def that takes {takes}, got a {kind}")
    if not _validate.is_async(getattr(value, "func", value)):
        what = _validate.name_of(value)
        raise TypeError(f"{name} must be an async def that takes {takes}, got {what}")


def _parameters_of(value: object) -> inspect.Signature | None:
    """Return the parameters of a callable; None if they are unknown.

    Other people's decorators may add arguments, or take some away: what is behind them is unknown.
    """
    while (inner := wrapped_by_protection(value)) is not None:
        value = inner
    try:
        return inspect.signature(cast("Callable[..., object]", value), follow_wrapped=False)
    except (TypeError, ValueError):
        return None


def _accepts(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True
