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
# Where a generator or a coroutine stands still; from Python 3.13 on, a frame into which an
# exception is thrown is already at the instruction behind.
_STANDING_STILL = {"RETURN_GENERATOR", "YIELD_VALUE"}
_WIDTH = 2  # the bytes of an instruction


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
    return is_a(fault, KeyboardInterrupt) and not _is_raised_by_code(passed[-1])


def _is_raised_by_code(last: TracebackType) -> bool:
    """Whether code has raised an exception, or thrown it into a generator or a coroutine."""
    code, position = last.tb_frame.f_code.co_code, last.tb_lasti
    if dis.opname[code[position]] in _RAISING:
        return True
    before = max(0, position - _WIDTH)
    return not _STANDING_STILL.isdisjoint({dis.opname[code[position]], dis.opname[code[before]]})


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
