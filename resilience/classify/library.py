"""What the rules can know about a client library, as data."""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias, cast

from resilience._introspection import is_a


class Meaning(Enum):
    """What an error of a client library means."""

    #: The server is down: a time-out, a connection that fails, an answer that breaks off.
    OUTAGE = "outage"
    #: An outage, unless the error that it wraps says something else.
    WRAPPER = "wrapper"
    #: The server is up and refuses the request: bad credentials, bad arguments, nothing there.
    REFUSAL = "refusal"
    #: The server is up and refuses the request because there are too many of them.
    THROTTLING = "throttling"
    #: The caller uses the client in a wrong way; nothing reached the server.
    MISUSE = "misuse"
    #: This machine or this program lacks something, whatever wraps the error that says so.
    LOCAL = "local"


#: An int is equal, a range holds the number, a text is the beginning of a code.
Code: TypeAlias = int | range | str


@dataclass(frozen=True)
class Codes:
    """Where the errors of a library have a code of their own, and what the codes mean."""

    #: Where the code is, as `reading.read` takes it.
    path: str
    outages: tuple[Code, ...] = ()
    throttling: tuple[Code, ...] = ()
    local: tuple[Code, ...] = ()
    misuse: tuple[Code, ...] = ()
    refusals: tuple[Code, ...] = ()
    #: What every other code means; None: nothing.
    others: Meaning | None = None
    #: The types that have the code; empty: all types of the library.
    types: tuple[str, ...] = ()

    def meaning_of(self, code: object) -> Meaning | None:
        """Return what a code means; None where it is not a code, or says nothing."""
        if not is_a(code, int) and not is_a(code, str):
            return None
        for meaning, known in (
            (Meaning.OUTAGE, self.outages),
            (Meaning.THROTTLING, self.throttling),
            (Meaning.LOCAL, self.local),
            (Meaning.REFUSAL, self.refusals),
            (Meaning.MISUSE, self.misuse),
        ):
            if any(_is_code(code, one) for one in known):
                return meaning
        return self.others


def _is_code(code: object, known: Code) -> bool:
    if is_a(code, str):
        return isinstance(known, str) and str.startswith(code, known)
    number = int.__int__(cast("int", code))  # of a subclass of int, too
    return number in known if isinstance(known, range) else number == known


@dataclass(frozen=True)
class ClientLibrary:
    """What is known about the errors of a client library, or of several that are alike.

    Types are named by their class alone, without the module: libraries move their errors between
    modules, and a fork has the same names in a package of its own.
    """

    #: What the documentation calls it.
    name: str
    #: The packages whose modules define its errors: a type of the same name elsewhere is not its.
    packages: tuple[str, ...]
    outages: tuple[str, ...] = ()
    wrappers: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    throttling: tuple[str, ...] = ()
    misuse: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    codes: tuple[Codes, ...] = ()
    #: Parts of a message, where nothing but the message says what happened. The first that is
    #: found decides; an empty one is found in an empty message only.
    texts: tuple[tuple[str, Meaning], ...] = ()
    #: Where the message is, if it is not an argument of the error.
    text: str = ""
    #: Where an HTTP status is, in addition to where every error is asked for it.
    status: tuple[str, ...] = ()
    #: A pattern of the messages that have the HTTP status as their first group.
    status_text: str = ""
    #: Whether a number called `status` or `code` is an HTTP status.
    has_http_status: bool = True
    #: Whether its errors may have a code that is a text; to read aiohttp's would be deprecated.
    has_error_code: bool = True
    #: Types of causes for which it makes up a status that the server never sent.
    unparsable: tuple[str, ...] = ()
    #: Where its errors keep the ones that they wrap, in addition to `__cause__`.
    wrapped: tuple[str, ...] = ()
    #: Whether it raises its errors while it handles the real ones, without `from`.
    hides_cause: bool = False
    #: The functions in which it waits for a free connection of its own pool; where a function also
    #: connects, with what it calls to wait.
    pool_waits: tuple[str, ...] = ()
    #: What a user of the library has to set, for the documentation.
    advice: str = ""

    @property
    def reads_status(self) -> bool:
        """Whether its errors may have an HTTP status where other errors have none."""
        return bool(self.status or self.status_text)

    def types(self) -> dict[str, Meaning]:
        """Return what each type means that is named."""
        return {
            name: meaning
            for meaning, names in (
                (Meaning.OUTAGE, self.outages),
                (Meaning.WRAPPER, self.wrappers),
                (Meaning.REFUSAL, self.refusals),
                (Meaning.THROTTLING, self.throttling),
                (Meaning.MISUSE, self.misuse),
                (Meaning.LOCAL, self.local),
            )
            for name in names
        }
