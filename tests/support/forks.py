"""Run a function in the child of a fork."""

import os
import select
import signal
import sys
import threading
import traceback

import pytest

# Python 3.12 and newer warn about a fork amid threads, which is what these tests are about.
forking = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

_WATCHDOG = 60.0  # seconds


def in_child(work):
    """Run `work` in a forked process. Fail with its traceback, or when it hangs for a minute."""
    reader, writer = os.pipe()
    # Another thread may hold a lock of the coverage tool at the fork, and what a fork calls in the
    # child comes before the first line there.
    tracer = sys.gettrace()
    sys.settrace(None)
    child = os.fork()
    if child == 0:
        _run_and_exit(work, writer)
    sys.settrace(tracer)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as output:
        # The end of the child closes the pipe, whether it has written or not.
        is_over, _, _ = select.select([output], [], [], _WATCHDOG)
        if not is_over:
            os.kill(child, signal.SIGKILL)
        text = output.read()
    _, status = os.waitpid(child, 0)
    assert is_over, "the child hangs"
    code = os.waitstatus_to_exitcode(status)
    assert code == 0, f"the child ended with {code}: {text}"


def _run_and_exit(work, writer):
    threading.settrace(None)
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        os.write(writer, traceback.format_exc().encode()[:60_000])
    finally:
        os._exit(status)
