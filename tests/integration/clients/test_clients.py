"""Every known client of every kind meets servers that are out, and servers that refuse."""

import asyncio
import inspect
import traceback
from importlib.metadata import version
from pathlib import Path

import pytest

from resilience import classify_error, classify_status
from tests.integration.clients.all_setups import SETUPS
from tests.integration.clients.client_setup import Situation, patience
from tests.integration.clients.describing import describe
from tests.integration.clients.servers import HTTP, dead_port, serving, stall

# A library's own warnings are its own matter.
pytestmark = pytest.mark.filterwarnings("ignore")


def cases(*, of):
    """Return a parameter for each set-up and each of its named cases."""
    return [
        pytest.param(setup, name, id=f"{setup.name}: {name}")
        for setup in SETUPS
        for name in of(setup)
    ]


def run(call, host, port):
    """Make the call, and return the error that it raised, or None, and what it returned."""
    try:
        result = asyncio.run(call(host, port)) if _is_async(call) else call(host, port)
    except Exception as error:
        if _is_mistake_of_the_setup(error):
            raise
        return error, None
    return None, result


def _is_async(call):
    return inspect.iscoroutinefunction(inspect.unwrap(call))


def _is_mistake_of_the_setup(error):
    if isinstance(error, (NameError, ImportError, SyntaxError)):
        return True
    innermost = list(traceback.walk_tb(error.__traceback__))[-1][0].f_code.co_filename
    raised_here = Path(innermost).parent == Path(__file__).parent
    return raised_here and isinstance(error, (AttributeError, AssertionError))


def check(setup, call, address, expected):
    """Make the call and compare its outcome, by the classifier for what came out."""
    error, result = run(call, *address)
    if error is not None:
        outcome, came = classify_error(error).name, describe(error)
    else:
        assert setup.returns_status, f"nothing was raised, but {type(result)} returned"
        outcome, came = classify_status(result).name, f"returned: {result!r}"
    if outcome != expected:
        pytest.fail(f"not {expected} but {outcome}:\n{came}", pytrace=False)


def check_at(behaviour, setup, expected):
    """Check a call to a server with this behaviour; the client must have connected to it."""
    if not _reaches(behaviour, setup, expected):
        # On a slow machine, the time may have been up before the client had connected.
        with patience():
            assert _reaches(behaviour, setup, expected), "the client did not reach the server"


def _reaches(behaviour, setup, expected):
    with serving(behaviour) as server:
        check(setup, setup.call, (server.host, server.port), expected)
    assert server.errors == []
    return server.accepted > 0


def situations(setup):
    return [situation for situation in Situation if situation not in setup.left_out]


def test_urllib3_is_not_the_fork_that_takes_its_place():
    import urllib3

    assert urllib3.__version__ == version("urllib3")


@pytest.mark.parametrize(("setup", "situation"), cases(of=situations))
def test_a_server_that_is_out_is_a_failure(setup, situation):
    if situation is Situation.DEAD:
        check(setup, setup.call, ("127.0.0.1", dead_port()), "FAILURE")
    else:
        check_at(setup.behaviours.get(situation) or HTTP[situation], setup, "FAILURE")


@pytest.mark.parametrize(("setup", "outage"), cases(of=lambda setup: setup.outages))
def test_so_is_another_outage(setup, outage):
    check_at(setup.outages[outage], setup, "FAILURE")


@pytest.mark.parametrize(("setup", "refusal"), cases(of=lambda setup: setup.refusals))
def test_a_refusal_is_answered(setup, refusal):
    with patience():
        check_at(setup.refusals[refusal], setup, "ANSWERED")


@pytest.mark.parametrize(("setup", "answer"), cases(of=lambda setup: setup.ignored))
def test_an_answer_that_says_nothing_about_the_server_is_ignored(setup, answer):
    with patience():
        check_at(setup.ignored[answer], setup, "IGNORED")


@pytest.mark.parametrize(("setup", "mistake"), cases(of=lambda setup: setup.misuse))
def test_a_mistake_or_shortage_on_this_side_is_ignored(setup, mistake):
    with patience(), serving(stall) as server:
        check(setup, setup.misuse[mistake], (server.host, server.port), "IGNORED")
