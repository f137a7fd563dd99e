"""Finding the message among the arguments of a handler, whoever calls it.

aio-pika passes its message as the only argument. FastStream passes what a handler asks for by name:
the decoded body, and a message of its own that has aio-pika's message in `raw_message`.
"""

import typing
from collections.abc import Callable, Mapping, Sequence

from aio_pika.abc import AbstractIncomingMessage

from resilience import _validate

_NEEDED = (
    "a message of aio_pika or of FastStream among its arguments; with FastStream, "
    "take one as a parameter: `message: RabbitMessage`"
)


def message_in(args: Sequence[object], kwargs: Mapping[str, object]) -> AbstractIncomingMessage:
    """Return the message of a call: the last positional argument, or one that is given by name.

    Raises:
        TypeError: There is no message.
    """
    for argument in (*args[-1:], *kwargs.values()):
        for candidate in (argument, getattr(argument, "raw_message", None)):
            if isinstance(candidate, AbstractIncomingMessage):
                return candidate
    kinds = [type(argument).__name__ for argument in (*args, *kwargs.values())]
    raise TypeError(f"hold_when_open needs {_NEEDED}, got {', '.join(kinds) or 'nothing'}")


def check_takes_message(fn: Callable[..., object]) -> None:
    """Reject a function whose parameters are annotated, and none of them can be a message.

    FastStream would call it with the decoded body alone, and would reject the message after the
    TypeError of `message_in`: it would be lost.

    Args:
        fn: The function that is decorated.

    Raises:
        TypeError: No parameter can be a message.
    """
    kinds = _annotations_of(fn)
    if kinds and all(_is_plain_data(kind) for kind in kinds):
        raise TypeError(f"@hold_when_open: {_validate.name_of(fn)} needs {_NEEDED}")


def _annotations_of(fn: Callable[..., object]) -> list[object]:
    """Return the annotations of the parameters; none if one of them is missing or unknown."""
    code = getattr(fn, "__code__", None)
    if code is None:
        return []
    try:
        # With the variables of the module. To find them, `typing` would go through all that the
        # function wraps, which may be the function itself.
        hints = typing.get_type_hints(fn, getattr(fn, "__globals__", {}))
    except Exception:  # noqa: BLE001 - An annotation may be any code.
        return []
    hints.pop("return", None)
    if len(hints) < code.co_argcount + code.co_kwonlyargcount:
        return []
    return list(hints.values())


def _is_plain_data(kind: object) -> bool:
    """Whether an annotation is a type of Python's own, such as `dict[str, int]` or `bytes`."""
    plain = typing.get_origin(kind) or kind
    return isinstance(plain, type) and plain is not object and plain.__module__ == "builtins"
