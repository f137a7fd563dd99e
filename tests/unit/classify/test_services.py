"""Errors of clients that keep what they say in a way of their own."""

from types import SimpleNamespace

import pytest

from resilience import classify_error
from resilience.classify import is_throttled, root_error
from tests.support.classifying import ANSWERED, FAILURE, IGNORED, caused, error_of, type_of


def telegram(name, message):
    return error_of(f"telegram.error.{name}", message=message)


UNPARSABLE = "Service Unavailable (503). Parsing the server response b'<html>' failed"


@pytest.mark.parametrize(
    ("name", "message", "outcome"),
    [
        ("NetworkError", "Bad Gateway", FAILURE),
        ("NetworkError", "httpx.ConnectError: refused", FAILURE),
        ("NetworkError", UNPARSABLE, FAILURE),
        ("NetworkError", "Internal Server Error (500)", FAILURE),
        ("NetworkError", "Unprocessable Entity (422)", ANSWERED),
        ("NetworkError", "Too Many Requests (429)", ANSWERED),
        ("NetworkError", "the chat (503) of somebody", FAILURE),
        ("TimedOut", "Timed out", FAILURE),
        ("RetryAfter", "Flood control exceeded. Retry in 3 seconds", ANSWERED),
        ("InvalidToken", "Unauthorized (401)", ANSWERED),
        ("Forbidden", "bot was blocked by the user", ANSWERED),
        ("Conflict", "terminated by another getUpdates request", ANSWERED),
    ],
)
def test_python_telegram_bot(name, message, outcome):
    assert classify_error(telegram(name, message)) is outcome


def test_a_bad_request_of_telegram_is_an_answer_although_it_is_a_network_error():
    network_error = type_of("telegram.error.NetworkError")
    assert classify_error(type_of("telegram.error.BadRequest", network_error)()) is ANSWERED


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        *(
            (f"aiogram.exceptions.Telegram{name}", FAILURE)
            for name in ("NetworkError", "ServerError")
        ),
        *(
            (f"aiogram.exceptions.Telegram{name}", ANSWERED)
            for name in ("APIError", "EntityTooLarge", "RetryAfter")
        ),
        *((f"ccxt.base.errors.{name}", FAILURE) for name in ("OperationFailed",)),
        *(
            (f"ccxt.base.errors.{name}", ANSWERED)
            for name in ("DDoSProtection", "ExchangeError", "InvalidNonce")
        ),
        ("dropbox.exceptions.ApiError", ANSWERED),
        ("huggingface_hub.errors.OverloadedError", FAILURE),
        ("redminelib.exceptions.ServerError", FAILURE),
        *(
            (f"redminelib.exceptions.{name}", ANSWERED)
            for name in ("AuthError", "ConflictError", "ForbiddenError", "ResourceNotFoundError")
        ),
        ("arango.exceptions.ServerConnectionError", FAILURE),
        ("qdrant_client.common.client_exceptions.ResourceExhaustedResponse", ANSWERED),
        *(
            (f"couchbase.exceptions.{name}", FAILURE)
            for name in (
                *("InternalServerFailureException", "ServiceUnavailableException"),
                *("AmbiguousTimeoutException", "TemporaryFailException", "TimeoutException"),
            )
        ),
        *(
            (f"couchbase.exceptions.{name}", ANSWERED)
            for name in (
                *("AuthenticationException", "CasMismatchException", "DocumentNotFoundException"),
                *("ParsingFailedException", "RateLimitedException"),
            )
        ),
        ("couchbase.exceptions.InvalidArgumentException", IGNORED),
    ],
)
def test_what_only_the_type_says(name, outcome):
    assert classify_error(error_of(name)) is outcome


def test_a_page_of_a_gateway_in_the_place_of_an_answer():
    name = "aiogram.exceptions.ClientDecodeError"
    page = error_of(name, message="Failed to decode object")
    other_answer = error_of(name, message="Failed to deserialize object")
    assert classify_error(caused(page, ValueError())) is FAILURE
    assert classify_error(caused(other_answer, ValueError())) is IGNORED


def test_a_hub_that_is_switched_off_is_not_an_outage():
    kind = type_of("huggingface_hub.errors.OfflineModeIsEnabled", ConnectionError)
    assert classify_error(kind()) is IGNORED


THROTTLED = [
    telegram("RetryAfter", "Flood control exceeded"),
    error_of("aiogram.exceptions.TelegramRetryAfter"),
    error_of("ccxt.base.errors.DDoSProtection"),
    error_of("qdrant_client.common.client_exceptions.ResourceExhaustedResponse"),
    error_of("couchbase.exceptions.RateLimitedException"),
]


@pytest.mark.parametrize("error", THROTTLED, ids=lambda error: type(error).__name__)
def test_what_throttles_is_worth_a_retry(error):
    assert is_throttled(root_error(error), None)


# A status that the client made up


@pytest.mark.parametrize(("status", "outcome"), [(408, FAILURE), (429, ANSWERED), (504, FAILURE)])
def test_a_time_out_of_litellm_is_an_outage_although_it_says_408(status, outcome):
    time_out = type_of("openai.APITimeoutError", type_of("openai.APIConnectionError"))
    error = type_of("litellm.exceptions.Timeout", time_out)()
    error.status_code = status
    assert classify_error(error) is outcome


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("too many 503 error responses", FAILURE),
        ("too many 500 error responses", FAILURE),
        ("too many 429 error responses", ANSWERED),
        ("too many error responses", ANSWERED),
    ],
)
def test_a_503_that_spotipy_calls_a_429_after_its_retries(reason, outcome):
    error = error_of(
        "spotipy.exceptions.SpotifyException",
        http_status=429,
        reason=error_of("urllib3.exceptions.ResponseError", reason),
    )
    assert classify_error(error) is outcome


# What wraps another error


@pytest.mark.parametrize(("status", "outcome"), [(503, FAILURE), (404, ANSWERED), (429, ANSWERED)])
def test_the_answer_in_an_error_of_box(status, outcome):
    info = SimpleNamespace(status_code=status)
    assert classify_error(error_of("box_sdk_gen.box.errors.BoxAPIError", response_info=info)) is (
        outcome
    )


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("box_sdk_gen.box.errors.BoxSDKError", "error"),
        ("qdrant_client.http.exceptions.ResponseHandlingException", "source"),
    ],
)
def test_the_error_in_an_attribute_of_another(name, attribute):
    assert classify_error(error_of(name, **{attribute: TimeoutError()})) is FAILURE
    assert classify_error(error_of(name, **{attribute: ValueError()})) is IGNORED


@pytest.mark.parametrize(
    ("driver", "outcome"),
    [
        (error_of("pymysql.err.OperationalError", 2013, "lost connection"), FAILURE),
        (error_of("pymysql.err.IntegrityError", 1062, "duplicate"), ANSWERED),
        (error_of("psycopg2.errors.UniqueViolation", pgcode="23505"), ANSWERED),
        (error_of("psycopg2.OperationalError", "connection refused"), FAILURE),
        (error_of("sqlite3.OperationalError", "locked"), IGNORED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_peewee_says_what_its_driver_says(driver, outcome):
    error = error_of("peewee.OperationalError", driver, *driver.args)
    assert classify_error(error) is outcome
    assert classify_error(caused(RuntimeError(), error)) is outcome
