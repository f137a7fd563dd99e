"""Rate limit headers: what asks for a delay where there is no `Retry-After`."""

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from freezegun import freeze_time
from tenacity import wait_fixed, wait_none

from resilience.requested_delay import requested_delay
from resilience.retry import transient_retry, wait_retry_after
from tests.support.client_errors import ClientError, each_client
from tests.support.driving import ServerError
from tests.support.retrying import Backend, Sleeps, state_after

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
EPOCH = int(NOW.timestamp())


def asked(headers, status=429):
    return requested_delay(ServerError(status, headers))


# Every form

FORMS = {
    "RateLimit-Reset": {"RateLimit-Remaining": "0", "RateLimit-Reset": "7"},
    "RateLimit": {"RateLimit": '"default";r=0;t=7'},
    "RateLimit with a token": {"RateLimit": "default;r=0;t=7"},
    "the old RateLimit": {"RateLimit": "limit=100, remaining=0, reset=7"},
    "X-RateLimit-Reset": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "7"},
    "X-Rate-Limit-Reset": {"X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Reset": "7"},
    "Genesys": {
        "inin-ratelimit-count": "301",
        "inin-ratelimit-allowed": "300",
        "inin-ratelimit-reset": "7",
    },
}
every_form = pytest.mark.parametrize("form", FORMS)


@every_form
@pytest.mark.parametrize("status", [429, 503, 500, 403, 200])
def test_where_nothing_remains_the_reset_is_a_request(form, status):
    assert asked(FORMS[form], status) == 7


@every_form
@each_client
def test_every_client_is_read(form, client):
    assert requested_delay(client(429, FORMS[form])) == 7


@every_form
def test_the_spelling_does_not_matter(form):
    assert asked({name.upper(): value for name, value in FORMS[form].items()}) == 7
    assert asked({name.lower(): value for name, value in FORMS[form].items()}) == 7


@every_form
def test_retry_after_takes_precedence(form):
    assert asked({**FORMS[form], "Retry-After": "2"}) == 2
    assert asked({"Retry-After": "0", **FORMS[form]}) == 0
    assert asked({**FORMS[form], "Retry-After": "soon"}) == 7


@every_form
def test_a_reset_is_a_floor_like_retry_after(form):
    wait = wait_retry_after(wait_none())
    waits = [wait(state_after(ServerError(429, FORMS[form]))) for _ in range(100)]
    assert 7 <= min(waits) < max(waits) <= 8.4
    assert 9 <= wait_retry_after(wait_fixed(9))(state_after(ServerError(429, FORMS[form]))) <= 10.4


# Which answers ask

PLENTY = {
    "RateLimit-Reset": {"RateLimit-Remaining": "9", "RateLimit-Reset": "7"},
    "RateLimit": {"RateLimit": '"default";r=9;t=7'},
    "the old RateLimit": {"RateLimit": "limit=100, remaining=9, reset=7"},
    "X-RateLimit-Reset": {"X-RateLimit-Remaining": "9", "X-RateLimit-Reset": "7"},
    "X-Rate-Limit-Reset": {"X-Rate-Limit-Remaining": "9", "X-Rate-Limit-Reset": "7"},
    "Genesys": {
        "inin-ratelimit-count": "291",
        "inin-ratelimit-allowed": "300",
        "inin-ratelimit-reset": "7",
    },
}


@pytest.mark.parametrize("form", PLENTY)
@pytest.mark.parametrize(
    ("status", "seconds"), [(429, 7), (503, None), (500, None), (404, None), (200, None)]
)
def test_where_requests_remain_only_a_429_asks(form, status, seconds):
    assert asked(PLENTY[form], status) == seconds


UNKNOWN = {
    "RateLimit-Reset": {"RateLimit-Reset": "7"},
    "RateLimit": {"RateLimit": '"default";t=7'},
    "the old RateLimit": {"RateLimit": "reset=7"},
    "X-RateLimit-Reset": {"X-RateLimit-Reset": "7"},
    "X-RateLimit-Reset, unlimited": {"X-RateLimit-Reset": "7", "X-RateLimit-Remaining": "-1"},
    "X-Rate-Limit-Reset": {"X-Rate-Limit-Reset": "7"},
    "Genesys": {"inin-ratelimit-reset": "7"},
    "Genesys, allowed": {"inin-ratelimit-reset": "7", "inin-ratelimit-allowed": "300"},
    "Genesys, count": {"inin-ratelimit-reset": "7", "inin-ratelimit-count": "300"},
}


@pytest.mark.parametrize("form", UNKNOWN)
@pytest.mark.parametrize(
    ("status", "seconds"), [(429, 7), (503, 7), (500, None), (404, None), (200, None)]
)
def test_where_it_is_not_known_what_remains_a_429_and_a_503_ask(form, status, seconds):
    assert asked(UNKNOWN[form], status) == seconds


def test_without_a_status_only_an_exhausted_limit_asks():
    assert requested_delay(ClientError(headers=FORMS["RateLimit"])) == 7
    assert requested_delay(ClientError(headers=UNKNOWN["RateLimit"])) is None


@pytest.mark.parametrize(("status", "seconds"), [(429, 7), (503, 7), (500, None)])
def test_the_status_of_botocore_is_known(status, seconds):
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": {"x-ratelimit-reset": "7"}}
    assert requested_delay(ClientError(response={"ResponseMetadata": metadata})) == seconds


# Several limits


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        ('"burst";r=0;t=5, "daily";r=17;t=3600', 5),
        ('"burst";r=3;t=5, "daily";r=0;t=3600', 3600),
        ('"burst";r=0;t=5, "minute";r=0;t=40', 40),
        ('"burst";r=3;t=5, "daily";r=17;t=3600', 5),
        ('"a,b;t=99";r=0;t=5', 5),
        (r'"a\",;t=99";r=0;t=5', 5),
        ('"default";r=0;t=5;pk=:dGVuYW50:', 5),
        ('"default" ; r=0 ; t=5', 5),
        ('"default";R=0;T=5', 5),
        (['"burst";r=0;t=5', '"minute";r=0;t=40'], 40),
        ("limit=10, remaining=0, reset=5, policy=x", 5),
        ("limit=10,remaining=0,reset=5", 5),
    ],
)
def test_of_several_limits_the_exhausted_one_that_lasts_longest_counts(field, seconds):
    assert asked({"RateLimit": field}) == seconds


def test_of_several_values_the_longest_counts():
    assert asked({"RateLimit-Reset": ["5", "40", "soon"]}) == 40
    fewest = {"RateLimit-Remaining": ["9", "0"], "RateLimit-Reset": "5"}
    assert asked(fewest, status=500) == 5


# Times instead of seconds

every_reset = pytest.mark.parametrize(
    "name", ["RateLimit-Reset", "X-RateLimit-Reset", "X-Rate-Limit-Reset", "inin-ratelimit-reset"]
)


@freeze_time(NOW)
@every_reset
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (EPOCH + 30, 30),
        (f"{EPOCH + 30}.5", 30.5),
        ((EPOCH + 30) * 1000, 30),
        (EPOCH, 0),
        (EPOCH - 30, 0),
        (10**9, 0),
        (10**12, 0),
        (10**9 - 1, 10**9 - 1),
        (86_400, 86_400),
        (0, 0),
    ],
)
def test_a_time_and_seconds_are_distinguished_by_their_size(name, value, seconds):
    assert asked({name: str(value)}) == seconds


@every_reset
@pytest.mark.parametrize("local", [NOW - timedelta(hours=1), NOW, NOW + timedelta(hours=1)])
def test_a_time_is_compared_with_the_clock_of_the_server(name, local):
    date = format_datetime(NOW, usegmt=True)
    with freeze_time(local):
        assert asked({"Date": date, name: str(EPOCH + 30)}) == 30


# Nothing usable


@every_reset
@pytest.mark.parametrize(
    "value",
    ["", "soon", "-1", "nan", "inf", "1e3", "7 s", "0x7", "\N{SUPERSCRIPT TWO}", None, math.nan],
    ids=ascii,
)
def test_a_reset_that_makes_no_sense_is_passed_over(name, value):
    assert asked({name: value}) is None


@pytest.mark.parametrize(
    "field",
    [
        "",
        "7",
        "default",
        '"default"',
        '"default";r=0',
        '"default";r=0;t=',
        '"default";r=0;t=-5',
        '"default";r=0;t="7"',
        '"default;r=0;t=7',
        "remaining=0",
        "remaining=0, reset=soon",
        ";;;,,,===",
        '"' * 8000,
        '"' + r"\"" * 4000,
        "t=," * 2000,
    ],
    ids=lambda field: ascii(field[:20]),
)
def test_a_field_that_makes_no_sense_is_passed_over(field):
    assert asked({"RateLimit": field}) is None
    assert asked({"RateLimit": field, "RateLimit-Reset": "7"}) == 7


def test_what_remains_and_makes_no_sense_is_not_known():
    assert asked({"RateLimit-Reset": "7", "RateLimit-Remaining": "many"}, 503) == 7
    assert asked({"RateLimit-Reset": "7", "RateLimit-Remaining": "many"}, 500) is None


# In a loop


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"RateLimit": '"daily";r=0;t=3600'}, "RateLimit"),
        ({"RateLimit-Reset": "3600"}, "RateLimit-Reset"),
        ({"X-RateLimit-Reset": "3600"}, "X-RateLimit-Reset"),
        ({"inin-ratelimit-reset": "3600"}, "inin-ratelimit-reset"),
        ({"Retry-After": "3600"}, "Retry-After"),
    ],
)
async def test_a_limit_that_lasts_too_long_ends_the_loop_with_a_note(headers, name):
    backend, sleeps = Backend(default=lambda: ServerError(429, headers)), Sleeps()
    with pytest.raises(ServerError) as caught:
        await transient_retry(sleep=sleeps)(backend.send)()
    assert (backend.attempts, sleeps) == (1, [])
    assert caught.value.__notes__ == [
        f"gave up: {name} asks for 3600 s, and the longest wait is 60 s"
    ]


async def test_a_loop_waits_until_the_limit_of_genesys_resets():
    backend, sleeps = Backend(ServerError(429, FORMS["Genesys"]), default=None), Sleeps()
    assert await transient_retry(sleep=sleeps)(backend.send)() == "sent"
    (seconds,) = sleeps
    assert 7 <= seconds <= 8.4
