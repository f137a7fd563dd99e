"""Throttling is an answer, and worth another attempt."""

from types import SimpleNamespace

import pytest

from resilience import Outcome, classify_error
from resilience.retry import is_transient
from tests.support.classifying import (
    ANSWERED,
    FAILURE,
    StatusError,
    caused,
    error_of,
    retried,
)


def aws(code, status):
    metadata = {"HTTPStatusCode": status}
    return error_of(
        "botocore.exceptions.ClientError",
        response={"Error": {"Code": code}, "ResponseMetadata": metadata},
    )


THROTTLED = [
    StatusError(status=429),
    StatusError(response=SimpleNamespace(status_code=429)),
    aws("ThrottlingException", 400),
    aws("Throttling", 400),
    aws("RequestThrottled", 400),
    aws("TooManyRequestsException", 429),
    aws("RequestLimitExceeded", 503),
    aws("ProvisionedThroughputExceededException", 400),
    aws("SlowDown", 503),
    StatusError(status=503, error_code="SlowDown"),
    StatusError(status=503, code="SlowDown"),
    error_of("grpclib.exceptions.GRPCError", status=SimpleNamespace(name="RESOURCE_EXHAUSTED")),
    error_of("hvac.exceptions.RateLimitExceeded"),
    error_of("kafka.errors.ThrottlingQuotaExceededError"),
    error_of("smtplib.SMTPDataError", smtp_code=451),
]


@pytest.mark.parametrize("error", THROTTLED, ids=repr)
def test_throttling_is_answered_and_tried_again(error):
    assert classify_error(error) is ANSWERED
    assert is_transient(error)
    assert is_transient(caused(ValueError(), error))
    assert is_transient(retried(error))
    assert is_transient(ExceptionGroup("", [KeyError(), error]))


@pytest.mark.parametrize(
    "error",
    [
        StatusError(status=404),
        StatusError(status=400, code="slow down"),
        aws("AccessDenied", 403),
        aws("NoSuchBucket", 404),
        error_of("hvac.exceptions.Forbidden"),
        error_of("kafka.errors.BrokerResponseError"),
        error_of("smtplib.SMTPDataError", smtp_code=550),
    ],
    ids=repr,
)
def test_any_other_answer_is_not(error):
    assert classify_error(error) is ANSWERED
    assert not is_transient(error)


def test_a_server_that_is_out_is_not_throttling():
    assert classify_error(aws("ServiceUnavailable", 503)) is FAILURE
    assert classify_error(aws("InternalError", 500)) is FAILURE
    assert is_transient(aws("InternalError", 500))


def test_a_request_that_timed_out_at_the_server_is_answered_and_tried_again():
    assert classify_error(StatusError(status=408)) is Outcome.ANSWERED
    assert is_transient(StatusError(status=408))
