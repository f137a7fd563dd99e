"""The name of a type as a program imports it."""

import sys

from resilience._introspection import module_of, qualified_name
from resilience.classify.reading import safe_getattr


def full_name(kind: type) -> str:
    """Return the name by which a program can import a type: ``redis.exceptions.ConnectionError``.

    A type that is defined in a private module has the name of the nearest package that offers it.
    """
    module, name = module_of(kind), qualified_name(kind)
    if module in ("builtins", ""):
        return name
    parts = module.split(".")
    if any(part.startswith("_") for part in parts) or _find(module, name) is not kind:
        for length in range(len(parts) - 1, 0, -1):
            package = ".".join(parts[:length])
            if _find(package, name) is kind:
                return f"{package}.{name}"
    return f"{module}.{name}"


def _find(module: str, name: str) -> object:
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = safe_getattr(found, part)
    return found
