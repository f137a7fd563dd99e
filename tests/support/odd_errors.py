"""Errors of every odd shape, each with the outcome that can be read from it.

They are made of what a client library, a proxy or a test double may do to an error: attributes
that hold or raise anything, special methods that raise, metaclasses, and circles.
"""

import asyncio
import errno
import types
from concurrent.futures import Future

from resilience import Outcome

FAILURE, ANSWERED, IGNORED = Outcome.FAILURE, Outcome.ANSWERED, Outcome.IGNORED
SECRET = "hunter2"


class Unrelated(BaseException):
    """Derived from neither Exception nor an exit."""


#: What an attribute or a special method may raise.
RAISED = (
    ValueError,
    AttributeError,
    KeyError,
    RecursionError,
    MemoryError,
    Unrelated,
    asyncio.CancelledError,
    GeneratorExit,
    KeyboardInterrupt,
    SystemExit,
)


def raising(kind):
    """A function that takes anything and raises."""

    def raise_it(*_args, **_kwargs):
        raise kind(SECRET)

    return raise_it


def made(base=Exception, meta=type, /, *args, **names):
    """An error of a class of its own, with these names in the class."""
    return meta("OddError", (base,), names)(*args)


def with_attributes(error, **attributes):
    vars(error).update(attributes)
    return error


def caused(error, cause):
    error.__cause__ = cause
    return error


def handled(error, context):
    error.__context__ = context
    return error


def metaclass(**names):
    return type("OddMeta", (type,), names)


def unreadable_metaclass(name):
    return metaclass(**{name: property(raising(ValueError))})


# The texts of a stranger


class OddText(str):
    """A text whose methods do not work."""

    __slots__ = ()

    __eq__ = __ne__ = __lt__ = __gt__ = __contains__ = __getitem__ = raising(ValueError)
    __len__ = __iter__ = __str__ = __repr__ = __format__ = __add__ = raising(ValueError)
    startswith = isprintable = lower = strip = raising(ValueError)
    __hash__ = None


class OddNumber(int):
    """A number whose methods do not work."""

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __index__ = raising(ValueError)
    __int__ = __bool__ = __str__ = __repr__ = __format__ = __and__ = raising(ValueError)
    __hash__ = None


class OddObject:
    """An object of which nothing works."""

    __class__ = property(raising(ValueError))
    __eq__ = __bool__ = __len__ = __iter__ = __index__ = __int__ = __call__ = raising(ValueError)
    __getattr__ = __getitem__ = __str__ = __repr__ = __instancecheck__ = raising(ValueError)
    __hash__ = None


class EndlessList(list):
    """A list that never ends."""

    def __iter__(self):
        while True:
            yield ValueError()


class EndlessDict(dict):
    """A dictionary that never ends."""

    def values(self):
        while True:
            yield ValueError()

    items = __iter__ = keys = values


class OddFuture(Future):
    """What tenacity keeps, and does not work."""

    done = raising(Unrelated)
    exception = result = cancelled = raising(Unrelated)


class FutureOfText(Future):
    """An attempt that failed with something that is not an error."""

    def exception(self, timeout=None):
        return "not an error"


# Circles and crowds


def circle_of_causes():
    first, second = ValueError("a"), TypeError("b")
    first.__cause__, second.__cause__ = second, first
    return first


def circle_of_contexts():
    first, second = ValueError("a"), TypeError("b")
    first.__context__, second.__context__ = second, first
    return first


def own_cause(error):
    error.__cause__ = error
    return error


def chain(length, last):
    error = last
    for _ in range(length):
        error = caused(ValueError(), error)
    return error


def shared_groups(width, depth, leaf):
    group = ExceptionGroup("", [leaf])
    for _ in range(depth):
        group = ExceptionGroup("", [group] * width)
    return group


def nested_groups(depth, leaf):
    group = leaf
    for _ in range(depth):
        group = ExceptionGroup("", [group])
    return group


def lying_group():
    kind = type("LyingGroup", (ExceptionGroup,), {"exceptions": property(raising(Unrelated))})
    return kind("", [TimeoutError()])


class SlottedError(Exception):
    __slots__ = ("reason", "status")


def slotted(**attributes):
    error = SlottedError()
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


#: What an attribute may hold.
ODD_VALUES = {
    "huge": lambda: 10**5000,
    "negative": lambda: -(10**5000),
    "true": lambda: True,
    "infinite": lambda: float("inf"),
    "not a number": lambda: float("nan"),
    "a text": lambda: OddText("503"),
    "a number": lambda: OddNumber(503),
    "an object": OddObject,
    "bytes": lambda: b"\xff\xfe",
    "a type": lambda: type,
    "a circle": lambda: own_cause(ValueError()),
    "a list without end": lambda: EndlessList([1]),
    "a dictionary without end": lambda: EndlessDict(a=1),
    "a control character": lambda: "5\n03",
    "a surrogate": lambda: "\ud800",
    "five million characters": lambda: "5" * 5_000_000,
}


_NAMES = (
    ("status", ConnectionError),
    ("status_code", TimeoutError),
    ("response", TimeoutError),
    ("code", ConnectionResetError),
    ("reason", ConnectionError),
    ("args", TimeoutError),
    ("last_attempt", TimeoutError),
    ("errno", ConnectionError),
    ("__class__", TimeoutError),
    ("__cause__", TimeoutError),
    ("__context__", TimeoutError),
    ("__traceback__", TimeoutError),
    ("__suppress_context__", TimeoutError),
    ("__dict__", TimeoutError),
)


def _properties():
    """A property that raises, on a type that is a failure whatever it says."""
    for name, base in _NAMES:
        for kind in RAISED:
            yield (
                f"{base.__name__} whose {name} raises {kind.__name__}",
                lambda base=base, name=name, kind=kind: made(
                    base, **{name: property(raising(kind))}
                ),
                FAILURE,
            )


def _special_methods():
    """Special methods of an error that has a status by that name."""
    names = ("__eq__", "__bool__", "__len__", "__str__", "__repr__", "__getattr__", "__iter__")
    names = (*names, "__call__", "__format__", "__reduce__", "__ne__", "__dir__")
    for name in names:
        yield (
            f"503 whose {name} raises",
            lambda name=name: with_attributes(made(**{name: raising(ValueError)}), status=503),
            FAILURE,
        )
    yield (
        "503 that cannot be hashed",
        lambda: with_attributes(made(__hash__=None), status=503),
        FAILURE,
    )
    yield (
        "503 whose hash raises",
        lambda: with_attributes(made(__hash__=raising(Unrelated)), status=503),
        FAILURE,
    )
    for kind in RAISED:
        yield (
            f"time-out whose __getattribute__ raises {kind.__name__}",
            lambda kind=kind: made(TimeoutError, __getattribute__=raising(kind)),
            FAILURE,
        )


def _metaclasses():
    """The class of an error does not work; the error is a failure by its base."""
    for name in ("__hash__", "__eq__", "__getattribute__", "__instancecheck__", "__getattr__"):
        for kind in (ValueError, Unrelated, KeyboardInterrupt):
            # A class that redefines __eq__ alone cannot be hashed either.
            yield (
                f"time-out whose metaclass has a {name} that raises {kind.__name__}",
                lambda name=name, kind=kind: made(TimeoutError, metaclass(**{name: raising(kind)})),
                FAILURE,
            )
    for name in ("__name__", "__module__", "__mro__", "__dict__", "__class__", "__bases__"):
        yield (
            f"time-out whose metaclass has a {name} that raises",
            lambda name=name: made(
                TimeoutError, metaclass(**{name: property(raising(ValueError))})
            ),
            FAILURE,
        )
    yield (
        "time-out whose metaclass cannot be hashed",
        lambda: made(TimeoutError, metaclass(__hash__=None)),
        FAILURE,
    )
    yield (
        "503 whose metaclass cannot be hashed",
        lambda: with_attributes(made(Exception, metaclass(__hash__=None)), status=503),
        FAILURE,
    )
    yield (
        "404 whose metaclass cannot be hashed",
        lambda: with_attributes(made(Exception, metaclass(__hash__=None)), status=404),
        ANSWERED,
    )
    yield (
        "time-out whose metaclass names it with a number",
        lambda: made(TimeoutError, metaclass(__name__=property(lambda _: 7))),
        FAILURE,
    )


def _values():
    """An attribute that holds anything."""
    for name in ("status", "code", "response", "reason", "errno", "last_attempt", "headers"):
        for text, value in ODD_VALUES.items():
            if name == "status" and text in ("a number", "a text"):
                continue  # below
            yield (
                f"time-out whose {name} is {text}",
                lambda name=name, value=value: with_attributes(
                    made(TimeoutError, **{name: None}), **{name: value()}
                ),
                FAILURE,
            )
    yield "status as an odd text", lambda: with_attributes(made(), status=OddText("503")), FAILURE
    yield "status as an odd number", lambda: with_attributes(made(), status=OddNumber(503)), FAILURE
    yield "404 as an odd number", lambda: with_attributes(made(), status=OddNumber(404)), ANSWERED


def _arguments():
    """Arguments that are anything."""
    yield "OSError with a dictionary", lambda: OSError({"code": 1}, "x"), IGNORED
    yield "OSError with a list", lambda: OSError([errno.ECONNRESET], "x"), IGNORED
    yield "OSError with an odd object", lambda: OSError(OddObject(), "x"), IGNORED
    yield "OSError with a set", lambda: OSError({1, 2}, {3}), IGNORED
    yield "OSError with a huge number", lambda: OSError(10**5000, "x"), IGNORED
    yield "OSError with an odd number", lambda: _numbered(errno.ECONNRESET), FAILURE
    yield "OSError with an odd text", lambda: OSError(OddText("x"), OddText("y")), IGNORED
    yield "time-out with a dictionary", lambda: TimeoutError({"code": 1}, {"b": 2}), FAILURE
    yield "reset with itself", lambda: _with_itself(ConnectionResetError()), FAILURE
    yield "no arguments at all", lambda: made(TimeoutError, args=None), FAILURE
    yield "arguments that are a text", lambda: made(TimeoutError, args="abc"), FAILURE
    yield "arguments that are a number", lambda: made(TimeoutError, args=7), FAILURE
    yield "a key that cannot be hashed", lambda: KeyError({}), IGNORED
    yield "a text that is not UTF-8", lambda: ConnectionError(b"\xff\xfe"), FAILURE
    yield "a text of a megabyte", lambda: ConnectionError("x" * 10**6), FAILURE
    yield "a thousand arguments", lambda: ConnectionError(*[OddObject()] * 1000), FAILURE
    yield "unicode", lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, SECRET), IGNORED
    yield "import", lambda: ImportError(OddText("x"), name={}, path=[]), IGNORED
    yield "end of a stream", lambda: EOFError(OddObject()), IGNORED


def _numbered(number):
    error = OSError("x")
    error.errno = OddNumber(number)  # its class would be looked up by its hash otherwise
    return error


def _with_itself(error):
    error.args = (error, [error], {"error": error})
    return error


def _wrapped():
    """What an error wraps."""
    yield "circle of causes", circle_of_causes, IGNORED
    yield "circle of contexts", circle_of_contexts, IGNORED
    yield "its own cause", lambda: own_cause(ValueError()), IGNORED
    yield "its own cause, a time-out", lambda: own_cause(TimeoutError()), FAILURE
    yield (
        "a cause that is odd",
        lambda: caused(ValueError(), made(TimeoutError, args=None)),
        FAILURE,
    )
    yield (
        "a cause whose class cannot be hashed",
        lambda: caused(ValueError(), made(TimeoutError, metaclass(__hash__=None))),
        FAILURE,
    )
    yield "a long chain", lambda: chain(10_000, ValueError()), IGNORED
    yield "a time-out at the end of a chain", lambda: chain(100, TimeoutError()), FAILURE
    yield "a group that lies", lying_group, FAILURE
    yield "shared groups", lambda: shared_groups(200, 7, ValueError()), IGNORED
    yield "shared groups with a time-out", lambda: shared_groups(200, 7, TimeoutError()), FAILURE
    yield "groups in groups", lambda: nested_groups(1_000, ValueError()), IGNORED
    yield "a time-out in groups", lambda: nested_groups(100, TimeoutError()), FAILURE
    yield (
        "a group of odd errors",
        lambda: ExceptionGroup("", [made(args=None), made(TimeoutError, __hash__=None)]),
        FAILURE,
    )
    yield "an attempt that does not work", lambda: _of_attempt(OddFuture()), IGNORED
    yield "an attempt that failed with a text", lambda: _of_attempt(FutureOfText()), IGNORED
    yield (
        "reasons without end",
        lambda: made(reason=property(lambda self: made(reason=property(lambda _: self)))),
        IGNORED,
    )
    yield (
        "a list of reasons without end",
        lambda: with_attributes(made(), reason=EndlessList()),
        (IGNORED),
    )


def _of_attempt(future):
    future.set_result(None) if not isinstance(future, OddFuture) else None
    return with_attributes(made(), last_attempt=future)


def _names():
    """Names of types."""
    for text in ("a\nb", "\x1b[31m", "\u202e", "x" * 10**6, "{}", "{0.__class__}", "<b>"):
        yield (
            f"a type called {text[:10]!r}",
            lambda text=text: type(text, (TimeoutError,), {})(),
            FAILURE,
        )
    yield "an odd module", lambda: made(TimeoutError, __module__=OddObject()), FAILURE
    yield "a module without end", lambda: made(TimeoutError, __module__="a." * 10_000), FAILURE
    yield "annotations that raise", lambda: made(__annotations__=OddObject()), IGNORED
    yield "slots", lambda: slotted(status=503), FAILURE
    yield "empty slots", slotted, IGNORED
    yield "odd slots", lambda: slotted(status=OddObject(), reason=OddObject()), IGNORED
    yield "a type made by types", types.new_class("Made", (TimeoutError,)), FAILURE


SHAPES = [
    *_properties(),
    *_special_methods(),
    *_metaclasses(),
    *_values(),
    *_arguments(),
    *_wrapped(),
    *_names(),
]
