"""Reading errors and answers of any class, whose attributes may be anything and may raise."""

from typing import cast


def safe_getattr(thing: object, name: str) -> object:
    """Return an attribute of an error or an answer of any class, or None where that fails."""
    try:
        return cast("object", getattr(thing, name, None))
    except Exception:  # noqa: BLE001 - a property of a stranger's class may raise anything
        return None
