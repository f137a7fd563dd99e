"""What is known about a type of errors: its library, and what the type means.

A type is found by its package and its own name, along its bases. Nothing is imported for it, and
a class that only has the same name is not found.
"""

from typing import NamedTuple

from resilience._by_type import ByType
from resilience._introspection import (
    bases_of,
    is_defined_by_python,
    module_of,
    name_of_class,
)
from resilience.classify.libraries import LIBRARIES
from resilience.classify.library import ClientLibrary, Codes, Meaning
from resilience.classify.reading import safe_getattr
from resilience.errors import CallRejectedError

_BY_PACKAGE = {package: library for library in LIBRARIES for package in library.packages}
_TYPES = {library.name: library.types() for library in LIBRARIES}
_POOL_WAITS = frozenset(wait for library in LIBRARIES for wait in library.pool_waits)

#: The names under which errors and answers keep an HTTP status.
STATUS_NAMES = ("status", "status_code", "http_status", "response_code", "http_code")
#: Those of what may have one, and of what may be one.
STATUS_HOLDERS = ("code", "meta", "resp", "response")
_LONGEST_MODULE = 500  # characters
# What the interpreter keeps of every error.
_KEPT_BY_PYTHON = ("__cause__", "__context__", "__dict__")
# Where errors keep what they say.
_TELLING = (*STATUS_NAMES, *STATUS_HOLDERS, "last_attempt", "reason", "sqlstate")


class TypeFacts(NamedTuple):
    """What is known about a type of errors."""

    #: The library that it comes from, or that its nearest known base comes from.
    library: ClientLibrary | None
    meaning: Meaning | None
    #: The codes of its library that it may have.
    codes: tuple[Codes, ...]
    #: Whether an error has a status only if it has attributes of its own.
    is_bare: bool
    #: Whether a `status` that an error has by itself is what it says.
    is_quick: bool


def library_of_module(module: object) -> ClientLibrary | None:
    """Return the library that a module belongs to."""
    if type(module) is not str or len(module) > _LONGEST_MODULE:
        return None
    while module:
        library = _BY_PACKAGE.get(module)
        if library is not None:
            return library
        module = module.rpartition(".")[0]
    return None


def is_pool_wait(function: str, caller: str) -> bool:
    """Return whether a function, or one that calls it, waits for a connection in a pool."""
    return function in _POOL_WAITS or f"{caller} > {function}" in _POOL_WAITS


def _facts(kind: type) -> TypeFacts:
    library, meaning = None, None
    for base in bases_of(kind):
        module = module_of(base)
        found = library_of_module(module)
        if found is None:
            continue
        meaning = _TYPES[found.name].get(name_of_class(base))
        # Every exception is derived from a built-in one.
        if library is None and (meaning is not None or module != "builtins"):
            library = found
        if meaning is not None:
            break
    codes = () if library is None else library.codes
    codes = tuple(one for one in codes if not one.types or is_one_of(kind, one.types))
    is_quick = meaning is None and not codes and _is_quick(kind, library)
    is_bare = _is_plain(kind) and all(safe_getattr(kind, name) is None for name in _TELLING)
    return TypeFacts(library, meaning, codes, is_bare, is_quick)


def _glance(kind: type) -> str:
    facts = FACTS.of(kind)
    if not facts.is_quick:
        return ""
    return SILENT if facts.is_bare and facts.library is None else BY_STATUS


def is_one_of(kind: type, names: tuple[str, ...]) -> bool:
    """Return whether a type, or one of its bases, has one of the names."""
    return any(name_of_class(base) in names for base in bases_of(kind))


def _is_plain(kind: type) -> bool:
    """Return whether the attributes of an error are those of its type and of its `__dict__`."""
    if safe_getattr(kind, "__getattribute__") is not BaseException.__getattribute__:
        return False
    if safe_getattr(kind, "__getattr__") is not None:
        return False
    return all(is_defined_by_python(kind, name) for name in _KEPT_BY_PYTHON)


def _is_quick(kind: type, library: ClientLibrary | None) -> bool:
    if not issubclass(kind, Exception) or not _is_plain(kind):
        return False
    if issubclass(kind, OSError | EOFError | BaseExceptionGroup | CallRejectedError):
        return False
    if library is not None and (library.reads_status or not library.has_http_status):
        return False
    attributes = ("error_code", "last_attempt", "response", "status")
    return all(safe_getattr(kind, name) is None for name in attributes)


FACTS = ByType(_facts)

# How an error of a type can be judged at a glance, if it wraps no other: by its `status`; or,
# without attributes, as one that says nothing. Empty: it cannot.
BY_STATUS, SILENT = "by status", "silent"
GLANCES = ByType(_glance)
