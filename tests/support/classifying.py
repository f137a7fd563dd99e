"""What the tests of classify share."""

import subprocess
import sys
import textwrap

import pytest
import tenacity
import urllib3
from aiohttp.client_reqrep import ConnectionKey

from resilience import Outcome

FAILURE, ANSWERED = Outcome.FAILURE, Outcome.ANSWERED
IGNORED, SUCCESS = Outcome.IGNORED, Outcome.SUCCESS


def caused(error, cause):
    """What `raise error from cause` makes."""
    error.__cause__ = cause
    return error


class StatusError(Exception):
    """The shape of any client's error: attributes, and no base class that is known."""

    def __init__(self, **attributes):
        super().__init__("sent nothing that anybody reads")
        vars(self).update(attributes)


KEY = ConnectionKey("api.mypurecloud.ie", 443, True, True, None, None, None)


POOL = urllib3.HTTPConnectionPool("127.0.0.1")


def run_python(source):
    """Run source in an interpreter of its own and return the lines that it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def retried(*errors):
    """The RetryError of a tenacity that saw these errors, the last one last."""
    remaining = iter(errors)

    @tenacity.retry(stop=tenacity.stop_after_attempt(len(errors)), wait=tenacity.wait_none())
    def attempt():
        raise next(remaining)

    with pytest.raises(tenacity.RetryError) as caught:
        attempt()
    return caught.value


class BitingResponseError(Exception):
    class Response:
        def __bool__(self):
            raise RuntimeError("no truth here")

        @property
        def status_code(self):
            raise RuntimeError("not read yet")

    response = Response()


class Response:
    def __init__(self, **attributes):
        vars(self).update(attributes)

    def __bool__(self):
        return False


def type_of(name, *bases):
    """Make a type as a client library defines it: `redis.exceptions.ConnectionError`."""
    module, _, own = name.rpartition(".")
    return type(own, bases or (Exception,), {"__module__": module})


def error_of(name, *arguments, **attributes):
    """Make an error of a library that is not installed here."""
    error = type_of(name)(*arguments)
    vars(error).update(attributes)
    return error


def raised(make):
    """Return the error that a function raises, with its traceback and context."""
    try:
        make()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")
