"""Trouble of this machine: no files, ports, buffers or memory, no free connection in a pool.

Clients wrap it in their connection errors and time-outs, but it says nothing about a region.
"""

import os
import re
from errno import EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM

from resilience._introspection import arguments_of, cause_of, is_a, members_of, traceback_of
from resilience.classify.known_types import FACTS, is_pool_wait
from resilience.classify.library import Meaning
from resilience.classify.meaning import meaning_by_itself
from resilience.classify.reading import safe_getattr
from resilience.classify.status import texts_of
from resilience.classify.wrapping import wrapped_errors

_EXHAUSTED = (EMFILE, ENFILE, ENOBUFS, ENOMEM)
# No local port; or an address of the region, often its IPv6 one, that this machine cannot use.
_NO_ADDRESS = EADDRNOTAVAIL

# Where the number is only in a message: "[Errno 24]", "(os error 24)", "Error 24 connecting to".
_NUMBERS = re.compile(r"\b(?:[Ee]rrno:?|os error|Error(?= \d+ connecting)) (\d{1,6})\b")
_TEXTS = {os.strerror(number): number for number in (*_EXHAUSTED, _NO_ADDRESS)}
# The proxy is this side's: it wants credentials of this side, or refuses to connect for it.
_PROXY_REFUSES = re.compile(
    r"\b407 Proxy Authentication Required\b"
    r"|\b(?:Tunnel connection failed:|CONNECT tunnel failed, response) 4\d\d\b"
)

_MOST_ERRORS = 64


def is_local(error: BaseException) -> bool:
    """Return whether an error is trouble of this machine, alone or in what it wraps.

    An address that cannot be used counts only if nothing else was wrong with the others.
    """
    seen, last = [error], []
    for one in seen:
        if _lacks_something(one):
            return True
        parts = _parts(one)
        if not parts:
            last.append(one)
        new = {id(part): part for part in parts if not any(part is known for known in seen)}
        seen += list(new.values())[: _MOST_ERRORS - len(seen)]
    return bool(last) and all(is_address_missing(one) for one in last)


def is_own_trouble(error: BaseException) -> bool:
    """Return whether an error by itself, whatever it wraps, is trouble of this machine."""
    return _lacks_something(error) or is_address_missing(error)


def is_address_missing(error: BaseException) -> bool:
    """Return whether this machine has no address or port for a connection, and nothing else."""
    return set(numbers_of(error)) == {_NO_ADDRESS}


def numbers_of(error: BaseException) -> list[int]:
    """Return the error numbers of the operating system that an error has or names."""
    if is_a(error, OSError):
        number = safe_getattr(error, "errno")  # whatever the error was made with
        if is_a(number, int):
            return [int.__int__(number)]
    texts = texts_of(error, FACTS.of(type(error)).library)
    if not texts:
        return []
    numbers = [int(number) for text in texts for number in _NUMBERS.findall(text)]
    named = [_TEXTS[name] for name in _TEXTS if any(name in text for text in texts)]
    return numbers + named


def _lacks_something(error: BaseException) -> bool:
    if meaning_by_itself(error, FACTS.of(type(error))) in (Meaning.LOCAL, Meaning.MISUSE):
        return True
    if any(number in _EXHAUSTED for number in numbers_of(error)):
        return True
    texts = texts_of(error, None)
    return any(_PROXY_REFUSES.search(text) for text in texts) or _waited_for_the_pool(error)


def _waited_for_the_pool(error: BaseException) -> bool:
    """Return whether an error, above all a cancellation by a time-out, ended a wait for a pool."""
    passed, caller = traceback_of(error), ""
    while passed is not None:
        frame = passed.tb_frame
        function = f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"
        if is_pool_wait(function, caller):
            return True
        passed, caller = passed.tb_next, function
    return False


def _parts(error: BaseException) -> list[BaseException]:
    """Return what an error consists of: what it wraps, and the errors among its arguments."""
    parts = wrapped_errors(error)
    cause = cause_of(error)
    if cause is not None:
        parts.append(cause)
    parts += [part for part in arguments_of(error) if is_a(part, BaseException)]
    if is_a(error, BaseExceptionGroup):
        parts += members_of(error)
    return parts
