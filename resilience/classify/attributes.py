"""Reading the attributes of errors and answers, which may be of any class."""


def safe_getattr(thing: object, name: str) -> object:
    """Return an attribute, or None where there is none or reading it raises."""
    try:
        return getattr(thing, name, None)
    except Exception:  # noqa: BLE001 - a property of a stranger's class may raise anything
        return None
