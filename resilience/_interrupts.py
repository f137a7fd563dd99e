"""Telling an exit that was asked for from outside from one that a stranger's code raises.

The code of an error's class may raise anything at all, `KeyboardInterrupt` included, and must not
replace the error that it belongs to. Ctrl-C, and the exit that a signal handler asks for, may come
at the same moment, and must not be lost.
"""

import dis
import signal
from importlib import import_module
from types import CodeType, TracebackType

from resilience._introspection import is_a, traceback_of

# The function behind `signal.getsignal`: that one looks each handler up in an enumeration and makes
# a text of the handler, and of all that it holds, for an error that nobody sees.
_getsignal = import_module("_signal").getsignal
_RAISING = {"RAISE_VARARGS", "RERAISE"}


def raise_interrupt(fault: BaseException) -> None:
    """Raise a fault again if it is an exit that a signal has asked for."""
    if is_a(fault, KeyboardInterrupt, SystemExit) and _comes_from_signal(fault):
        raise fault


def _comes_from_signal(fault: BaseException) -> bool:
    passed = _passed_by(traceback_of(fault))
    codes = {_code_of(_getsignal(number)) for number in signal.valid_signals()}
    if any(one.tb_frame.f_code in codes for one in passed):
        return True
    # Python's own handler has no frame: its KeyboardInterrupt comes out of any instruction.
    last = passed[-1]
    instruction = dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]]
    return is_a(fault, KeyboardInterrupt) and instruction not in _RAISING


def _passed_by(traceback: TracebackType | None) -> list[TracebackType]:
    passed: list[TracebackType] = []
    while traceback is not None:
        passed.append(traceback)
        traceback = traceback.tb_next
    return passed


def _code_of(handler: object) -> CodeType | None:
    function: object = getattr(handler, "func", handler)  # of a `functools.partial`
    function = getattr(function, "__func__", function)  # of a method
    code: object = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None
