"""What was being handled when an error was raised does not speak for the error."""

import errno

import pytest

from resilience import Outcome, classify_error

OUT_OF_FILES = [errno.EMFILE, errno.ENFILE]
OUTAGES = [TimeoutError, ConnectionResetError, ConnectionRefusedError]


def raise_while_handling(number, kind, *, from_none):
    try:
        try:
            raise OSError(number, "Too many open files")
        except OSError:
            if from_none:
                raise kind from None
            raise kind  # noqa: B904 - it is what is tested
    except kind as error:
        return error


@pytest.mark.parametrize("number", OUT_OF_FILES)
@pytest.mark.parametrize("kind", OUTAGES)
@pytest.mark.parametrize("from_none", [False, True])
def test_an_outage_while_a_lack_of_files_is_handled_is_an_outage(number, kind, from_none):
    error = raise_while_handling(number, kind, from_none=from_none)
    assert error.__context__.errno == number
    assert classify_error(error) is Outcome.FAILURE


@pytest.mark.parametrize("number", OUT_OF_FILES)
def test_an_outage_that_is_raised_from_a_lack_of_files_is_this_machines(number):
    error = ConnectionError("cannot connect")
    error.__cause__ = OSError(number, "Too many open files")
    assert classify_error(error) is Outcome.IGNORED
    assert classify_error(ConnectionError(OSError(number, "of requests"))) is Outcome.IGNORED
