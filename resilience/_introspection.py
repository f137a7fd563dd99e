"""Introspection that runs no code of a stranger's class.

An error, a result or its class may be anything: a property may raise, `__class__` may lie, and a
metaclass may refuse every question. What the interpreter itself keeps of them is read here, past
all that.
"""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeGuard, TypeVar, cast

T = TypeVar("T")


def _getter(owner: type, name: str) -> Callable[[Any], Any]:
    return cast("Callable[[Any], Any]", vars(owner)[name].__get__)


_name = _getter(type, "__name__")
_qualified_name = _getter(type, "__qualname__")
_module = _getter(type, "__module__")

#: The bases of a class, itself the first.
bases_of: Callable[[type], tuple[type, ...]] = _getter(type, "__mro__")
#: The names that a class itself defines.
names_in: Callable[[type], Mapping[str, object]] = _getter(type, "__dict__")

#: The error that an error was raised from.
cause_of: Callable[[BaseException], BaseException | None] = _getter(BaseException, "__cause__")
#: The error that was being handled when an error was raised.
context_of: Callable[[BaseException], BaseException | None] = _getter(BaseException, "__context__")
#: Whether an error was raised `from` something, None included.
suppresses_context: Callable[[BaseException], bool] = _getter(BaseException, "__suppress_context__")
#: Where an error was raised.
traceback_of: Callable[[BaseException], TracebackType | None] = _getter(
    BaseException, "__traceback__"
)
#: What an error was made with.
arguments_of: Callable[[BaseException], tuple[object, ...]] = _getter(BaseException, "args")
#: The attributes of an error itself.
attributes_of: Callable[[BaseException], dict[str, object]] = _getter(BaseException, "__dict__")
#: The errors in a group.
members_of: Callable[[BaseException], tuple[BaseException, ...]] = _getter(
    BaseExceptionGroup, "exceptions"
)


def is_a(thing: object, *kinds: type[T]) -> TypeGuard[T]:
    """Return whether a thing is an instance of one of some classes, or of a class derived from one.

    Its type decides, and not its `__class__`.

    Args:
        thing: Anything.
        kinds: Classes whose metaclass is known: it may have a say.
    """
    return issubclass(type(thing), kinds)


def is_caught_by(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Return whether `except` takes an error for one of some types, which may be anybody's."""
    return any(type.__subclasscheck__(kind, type(error)) for kind in kinds)


def type_name(thing: object) -> str:
    """Return the name of the type of a thing."""
    return name_of_class(type(thing))


def name_of_class(kind: type) -> str:
    """Return the name of a class; it may be a `str` of any class that somebody made."""
    return str.__str__(_name(kind))


def qualified_name(kind: type) -> str:
    """Return the name of a class with those of what it was defined in."""
    return str.__str__(_qualified_name(kind))


def module_of(kind: type) -> str:
    """Return the name of the module that defines a class, or nothing where that is not a text."""
    try:
        module = _module(kind)
    except AttributeError:
        return ""
    return str.__str__(module) if is_a(module, str) else ""


def is_defined_by_python(kind: type, name: str) -> bool:
    """Return whether an attribute of the instances of a class is one that the interpreter keeps."""
    for base in bases_of(kind):
        if name in names_in(base):
            return type(names_in(base)[name]) is type(vars(BaseException)[name])
    return False
