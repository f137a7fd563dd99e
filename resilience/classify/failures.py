"""`failures`: a classifier that counts some types of exceptions, whatever they say."""

from collections.abc import Callable

from resilience._introspection import bases_of, is_caught_by, module_of, name_of_class
from resilience._validate import kind_of
from resilience.classify.rules import Examination
from resilience.outcome import Outcome

# What ends a call from outside, which no classifier is asked about.
_TOO_GENERAL = (BaseException, BaseExceptionGroup)
_NEVER_COUNTED = {
    "asyncio.exceptions.CancelledError",
    "builtins.GeneratorExit",
    "builtins.KeyboardInterrupt",
    "builtins.SystemExit",
    "trio.Cancelled",
}


def failures(*types: type[BaseException]) -> Callable[[BaseException], Outcome]:
    """Make a classifier for which these exception types are failures too.

    Args:
        types: Exception types that count, whatever their status; every other error is judged as
            `classify_error` does it. A timeout that is not an `Exception`, such as
            ``gevent.Timeout``, can be one of them.

    Returns:
        A classifier for a breaker, a registry or a decorator.

    Raises:
        TypeError: No type was given, something that is not an exception type, or one that a
            cancellation or an exit belongs to.
    """
    given: tuple[object, ...] = types
    if not given:
        raise TypeError("failures() takes at least one exception type: failures(MyError)")
    wrong = ", ".join(kind_of(kind) for kind in given if not _is_exception_type(kind))
    if wrong:
        raise TypeError(f"failures() takes exception types, failures(MyError, ...), got {wrong}")
    for kind in types:
        if any(kind is one for one in _TOO_GENERAL) or _ends_a_call(kind):
            raise TypeError(
                f"failures() never counts {name_of_class(kind)}: a cancellation or an exit says"
                " nothing about the region"
            )
    return CountTypes(types)


class CountTypes:
    """A classifier that counts exceptions by their type; `failures` makes it.

    Args:
        types: The exception types that count.
    """

    __slots__ = ("_base_exceptions", "_types")

    def __init__(self, types: tuple[type[BaseException], ...]) -> None:
        self._types = types
        self._base_exceptions = tuple(kind for kind in types if not issubclass(kind, Exception))

    def __call__(self, error: BaseException) -> Outcome:
        """Classify an error."""
        return Examination(self._types).of(error)[0] or Outcome.IGNORED

    def counts_base_exception(self, error: BaseException) -> bool:
        """Return whether an error counts although it is not an `Exception`."""
        return is_caught_by(error, self._base_exceptions)


def _ends_a_call(kind: type[BaseException]) -> bool:
    names = {f"{module_of(base)}.{name_of_class(base)}" for base in bases_of(kind)}
    return not names.isdisjoint(_NEVER_COUNTED)


def _is_exception_type(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)
