"""Reading errors and answers of any class, whose attributes may be anything and may raise."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import cast

from resilience._interrupts import raise_interrupt


def safe_getattr(thing: object, name: str) -> object:
    """Return an attribute of an error or an answer of any class, or None where that fails."""
    try:
        return cast("object", getattr(thing, name, None))
    except BaseException as fault:  # noqa: BLE001 - a property of a stranger's class may raise anything
        raise_interrupt(fault)
        return None


def read(thing: object, path: str) -> object:
    """Follow a path such as ``response["Error"]["Code"]``, ``args[0]`` or ``code().name``.

    Returns:
        What is at its end, or None where a step leads nowhere.
    """
    for name, item in _steps(path):
        if thing is None:
            return None
        thing = _follow(thing, name, item)
    return thing


_STEP = re.compile(r"\.?(?P<name>\w+)|\[(?P<index>\d+)\]|\[\"(?P<key>[^\"]+)\"\]|(?P<call>\(\))")


@lru_cache(maxsize=512)
def _steps(path: str) -> tuple[tuple[str | None, int | str | None], ...]:
    """Return the steps of a path: a name; or else an index or a key, or None for a call."""
    return tuple(
        (step["name"], int(step["index"]) if step["index"] else step["key"])
        for step in _STEP.finditer(path)
    )


def _follow(thing: object, name: str | None, item: int | str | None) -> object:
    if name is not None:
        return safe_getattr(thing, name)
    try:
        if item is None:
            return cast("Callable[[], object]", thing)()
        return cast("dict[int | str, object]", thing)[item]
    except BaseException as fault:  # noqa: BLE001 - not what the path expects, or it does not work
        raise_interrupt(fault)
        return None
