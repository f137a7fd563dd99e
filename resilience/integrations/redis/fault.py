"""Faults of the store, in the words of a log line.

A server may put what it was sent into the text of an error, and redis-py puts it into its own. No
such text is shown: only codes, texts of this machine, and the names of Redis commands.
"""

import errno
import os
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)

from resilience._text import one_line

# What Valkey and Redis call the same fault if a script meets it.
_NOPERM_IN_SCRIPT: Final = re.compile("ACL failure in script|user executing the script can't")
# Codes of which redis-py has no type of error.
_OTHER_CODES: Final = "BUSY|CROSSSLOT|DENIED|MASTERDOWN|MISCONF|NOREPLICAS|TRYAGAIN|WRONGTYPE"
_CODES: Final = re.compile(f"({_OTHER_CODES})")
# Before version 7, Redis puts other words in front of the error that a script meets.
_CODES_IN_SCRIPT: Final = re.compile(
    rf"Error running script .{{0,200}}: -({_OTHER_CODES}|READONLY|OOM) "
)
_PROTECTED: Final = "DENIED"
_NO_ROOM: Final = "max number of clients"
_COMMAND: Final = re.compile(r"'([a-zA-Z|-]{1,40})' command")
# redis-py takes the code off the text of these.
_CODES_OF_TYPES: Final = (
    (ReadOnlyError, "READONLY", "the server is a replica"),
    (OutOfMemoryError, "OOM", "the server is full"),
    (BusyLoadingError, "LOADING", "the server is starting"),
    (ClusterDownError, "CLUSTERDOWN", "the cluster is not complete"),
    (MovedError, "MOVED", "another node of the cluster has the keys"),
)
# An error may be its own cause, by way of others.
_MOST_CAUSES: Final = 10
_CODES_OF_NAMES: Final = {
    number: name for name, number in vars(socket).items() if name.startswith("EAI_")
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the store cannot be used.

    Args:
        text: What is wrong, in short.
        is_refusal: Whether the store was reached and refuses this process: waiting does not help,
            but somebody has to change a setting.
    """

    text: str
    is_refusal: bool = False


class NoPrimaryError(redis.ConnectionError):
    """No Sentinel names a primary; the text names each of them, and its fault."""


def describe_fault(error: BaseException) -> Fault:
    """Describe an error of a connection by its code."""
    if isinstance(error, NoPrimaryError):
        return Fault(f"no Sentinel names it ({error})")
    if isinstance(error, redis.RedisError) and _NO_ROOM in str(error):
        return Fault("ERR: the server has as many clients as it takes")
    return _fault_of_answer(error) or _fault_of_connection(error)


def is_protected(error: redis.ResponseError) -> bool:
    """Return whether a server in protected mode answers like this, which then hangs up."""
    return str(error).startswith(_PROTECTED)


def _fault_of_answer(error: BaseException) -> Fault | None:
    """Describe an error that the server has answered with."""
    if isinstance(error, AuthenticationError):
        is_missing = "required" in str(error)
        text = "NOAUTH: a password is required" if is_missing else "WRONGPASS: it is not accepted"
        return Fault(text, is_refusal=True)
    in_script = _CODES_IN_SCRIPT.match(str(error))
    for kind, known, meaning in _CODES_OF_TYPES:
        if isinstance(error, kind) or (in_script is not None and in_script[1] == known):
            return Fault(f"{known}: {meaning}")
    if not isinstance(error, redis.ResponseError):
        return None
    if isinstance(error, NoPermissionError) or _NOPERM_IN_SCRIPT.search(str(error)):
        command = _COMMAND.search(str(error))
        lacking = "a command, key or channel" if command is None else command[1].lower()
        return Fault(f"NOPERM: the user has no permission for {lacking}", is_refusal=True)
    if "DB index" in str(error):
        return Fault("ERR: it has no such database", is_refusal=True)
    code = in_script or _CODES.match(str(error))
    return Fault(f"{code[1] if code else 'ERR'}: the server refuses a command", is_refusal=True)


def _fault_of_connection(error: BaseException) -> Fault:
    for one in _causes(error):
        fault = _fault_of_socket(one)
        if fault is not None:
            return fault
    if isinstance(error, redis.ConnectionError):
        return Fault("the connection has ended")
    return Fault(type(error).__name__)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Return an error and what lies behind it: redis-py wraps the errors of sockets."""
    cause: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _fault_of_socket(error: BaseException) -> Fault | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Fault(f"certificate not accepted: {one_line(error.verify_message)}", is_refusal=True)
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or "no reason given"
        return Fault(f"TLS failed: {one_line(reason)}", is_refusal=True)
    if isinstance(error, socket.gaierror):
        code = _CODES_OF_NAMES.get(error.errno or 0, "unknown host")
        return Fault(f"{code}: the host was not found")
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return Fault("no answer in time")
    number = error.errno if isinstance(error, OSError) else None
    if number is not None and number in errno.errorcode:
        return Fault(f"{errno.errorcode[number]}: {os.strerror(number)}")
    return None
