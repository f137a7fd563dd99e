"""FakeGenesys: routes that a test adds, and a region in a thread of its own."""

import threading

import pytest
import requests
from aiohttp import web

from resilience.testing import FakeGenesys


@pytest.fixture
def genesys():
    with FakeGenesys() as server:
        yield server


def get(genesys, path, method="GET", *, token=True):
    headers = {"Authorization": f"Bearer {genesys.issue_token()}"} if token else {}
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, genesys.url + path, headers=headers, timeout=30)


def test_json_is_answered_as_it_is(genesys):
    genesys.add_route("get", "/api/v2/users/me", {"id": "me", "divisions": [1, None]})
    answer = get(genesys, "/api/v2/users/me")
    assert (answer.status_code, answer.json()) == (200, {"id": "me", "divisions": [1, None]})


def test_a_function_answers_with_json_or_with_a_response(genesys):
    async def created(request):
        return web.json_response(await request.json(), status=201)

    genesys.add_route("GET", "/api/v2/users/{id}", lambda request: request.path.split("/")[-1])
    genesys.add_route("DELETE", "/api/v2/users/{id}", lambda _request: web.Response(status=204))
    genesys.add_route("POST", "/api/v2/users", created)
    assert get(genesys, "/api/v2/users/17").json() == "17"
    assert get(genesys, "/api/v2/users/17", "DELETE").status_code == 204
    headers = {"Authorization": f"Bearer {genesys.issue_token()}"}
    answer = requests.post(genesys.url + "/api/v2/users", json=[1], headers=headers, timeout=30)
    assert (answer.status_code, answer.json()) == (201, [1])


def test_a_placeholder_is_one_segment_and_the_rest_is_literal(genesys):
    genesys.add_route("GET", "/a.b/{id}/{}", "found")
    assert get(genesys, "/a.b/1/2").status_code == 200
    for path in ("/a.b/1", "/a.b/1/2/3", "/a.b//2", "/axb/1/2"):
        assert get(genesys, path).status_code == 404


def test_the_last_route_of_a_path_answers(genesys):
    genesys.add_route("GET", "/path", "old")
    genesys.add_route("GET", "/path", "new")
    assert get(genesys, "/path").json() == "new"


def test_a_route_may_take_the_place_of_an_endpoint(genesys):
    genesys.add_route("POST", "/oauth/token", {"access_token": "mine"}, require_token=False)
    assert get(genesys, "/oauth/token", "POST", token=False).json() == {"access_token": "mine"}


def test_another_method_is_405_and_names_those_that_there_are(genesys):
    genesys.add_route("GET", "/path", "x")
    genesys.add_route("PUT", "/path", "x")
    genesys.add_route("GET", "/oauth/token", "x")
    answer = get(genesys, "/path", "DELETE")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, PUT")
    answer = get(genesys, "/oauth/token", "DELETE")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST")


def test_a_route_needs_a_token_unless_it_says_otherwise(genesys):
    genesys.add_route("GET", "/secret", "x")
    genesys.add_route("GET", "/health", "x", require_token=False)
    assert get(genesys, "/secret", token=False).status_code == 401
    assert get(genesys, "/health", token=False).status_code == 200


def test_routes_fail_like_everything_else_and_are_counted(genesys):
    genesys.add_route("GET", "/path", "x")
    genesys.fail(503, paths="/path")
    assert get(genesys, "/path").status_code == 503
    genesys.up()
    assert get(genesys, "/path").status_code == 200
    assert genesys.requests_by_path["/path"] == 2


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("", "/path", "x"), ValueError, "method"),
        ((7, "/path", "x"), TypeError, "method"),
        (("GET", "path", "x"), ValueError, "path must be a text that starts with"),
        (("GET", 7, "x"), TypeError, "path"),
        (("GET", "/path", object()), TypeError, "answer must be JSON, or a function"),
        (("GET", "/path", web.Response()), TypeError, "answer must not be a response"),
    ],
)
def test_a_wrong_route_is_an_error_that_names_the_argument(arguments, error, text):
    with pytest.raises(error, match=text):
        FakeGenesys().add_route(*arguments)
    with pytest.raises(TypeError, match="require_token"):
        FakeGenesys().add_route("GET", "/path", "x", require_token="no")


# --- in a thread of its own ----------------------------------------------------------------------


def test_a_region_in_a_thread_can_be_switched_from_the_test(genesys):
    genesys.add_route("GET", "/path", "x")
    assert get(genesys, "/path").status_code == 200
    genesys.refuse()
    with pytest.raises(requests.ConnectionError):
        get(genesys, "/path")
    genesys.up()
    assert get(genesys, "/path").status_code == 200


async def test_a_region_in_a_thread_can_be_switched_from_another_loop(genesys):
    genesys.refuse()
    with pytest.raises(requests.ConnectionError):
        get(genesys, "/path")


def test_the_thread_ends_with_the_block():
    before = set(threading.enumerate())
    with FakeGenesys() as genesys:
        port = genesys.port
        assert [thread.name for thread in set(threading.enumerate()) - before] == ["FakeGenesys"]
        # One that cannot start leaves no thread behind either.
        with pytest.raises(OSError, match="in use"), FakeGenesys(port=port):
            pass
    assert set(threading.enumerate()) == before
