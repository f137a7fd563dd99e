"""Out of files: the trouble of this machine, whichever library reports it."""

import errno

import aiohttp
import httpcore
import httpx
import pytest
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError

from resilience import classify_error
from tests.support.classifying import FAILURE, IGNORED, KEY, POOL, caused, run_python

OUT_OF_FILES = [errno.EMFILE, errno.ENFILE]


@pytest.mark.parametrize("number", OUT_OF_FILES, ids=errno.errorcode.get)
class TestOutOfFiles:
    def test_inside_the_wrappers_of_aiohttp(self, number):
        own = OSError(number, "Too many open files")
        assert classify_error(aiohttp.ClientConnectorError(KEY, own)) is IGNORED
        assert classify_error(caused(aiohttp.ClientConnectorError(KEY, own), own)) is IGNORED
        assert classify_error(aiohttp.ClientOSError(number, "Too many open files")) is IGNORED

    def test_inside_the_wrappers_of_httpx(self, number):
        own = OSError(number, "Too many open files")
        core = caused(httpcore.ConnectError(str(own)), own)
        assert classify_error(caused(httpx.ConnectError(str(core)), core)) is IGNORED

    def test_inside_urllib3_s_wrappers(self, number):
        own = OSError(number, "Too many open files")
        new_connection = caused(NewConnectionError(POOL, str(own)), own)
        retries = caused(MaxRetryError(POOL, "/", new_connection), new_connection)
        assert classify_error(new_connection) is IGNORED
        assert classify_error(retries) is IGNORED

    def test_inside_an_urllib3_error_that_has_it_as_an_argument_only(self, number):
        # what urllib3 makes of it when the file that is missing is the one of the certificates
        own = OSError(number, "Too many open files")
        assert classify_error(ProtocolError("Connection aborted.", own)) is IGNORED

    def test_inside_an_error_of_the_users(self, number):
        own = OSError(number, "Too many open files")
        assert classify_error(caused(RuntimeError("not sent"), own)) is IGNORED


OUT_OF_FILES_FOR_REAL = """
import asyncio, os, resource, socket
from resilience import classify_error

def attempt():
    {call}

def outcome():
    try:
        attempt()
    except Exception as error:
        return classify_error(error).name, repr(error)

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    url = "http://127.0.0.1:%d/" % free.getsockname()[1]
{setup}
print(outcome()[0])  # refused; and it loads what the client loads late
highest = os.dup(0)
os.close(highest)
resource.setrlimit(resource.RLIMIT_NOFILE, (highest, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
print(*outcome())
"""


CLIENT_WITHOUT_FILES = {
    "aiohttp": (
        """
import aiohttp
runner = asyncio.Runner()
runner.get_loop()

async def get():
    async with aiohttp.ClientSession() as session:
        await session.get(url)
""",
        "runner.run(get())",
    ),
    "httpx": ("import httpx\nclient = httpx.Client(trust_env=False)", "client.get(url)"),
    "requests": ("import requests\nsession = requests.Session()", "session.get(url)"),
    "urllib3": ("import urllib3\npool = urllib3.PoolManager()", "pool.request('GET', url)"),
    "urllib": ("import urllib.request", "urllib.request.urlopen(url)"),
}


@pytest.mark.parametrize("client", CLIENT_WITHOUT_FILES)
def test_a_client_that_really_ran_out_of_files_is_ignored(client):
    setup, call = CLIENT_WITHOUT_FILES[client]
    refused, exhausted = run_python(OUT_OF_FILES_FOR_REAL.format(setup=setup, call=call))
    assert refused == "FAILURE"
    assert exhausted.startswith("IGNORED")
    assert "Too many open files" in exhausted


def test_out_of_files_is_found_among_several_errors_of_one_connection():
    error = aiohttp.ClientConnectionError()
    error.__cause__ = ExceptionGroup("all addresses", [OSError(errno.EMFILE, "too many")])
    assert classify_error(error) is IGNORED


@pytest.mark.parametrize(("levels", "outcome"), [(1_000, FAILURE), (1_001, IGNORED)])
def test_a_thousand_causes_are_followed(levels, outcome):
    error = TimeoutError()
    for _ in range(levels):
        wrapper = RuntimeError()
        wrapper.__cause__ = error
        error = wrapper
    assert classify_error(error) is outcome
