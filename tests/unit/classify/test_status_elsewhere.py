"""Where else the clients keep an HTTP status, and numbers that are none."""

from enum import Enum
from http import HTTPStatus
from types import SimpleNamespace

import pytest

from resilience import classify_error, classify_status
from resilience.classify import describe
from tests.support.classifying import (
    ANSWERED,
    FAILURE,
    IGNORED,
    SUCCESS,
    StatusError,
    caused,
    error_of,
)


def answer(status):
    return {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": "AnyCode"}}


PLACES = {
    "code": lambda status: {"code": status},
    "http_status": lambda status: {"http_status": status},
    "response_code": lambda status: {"response_code": status},
    "http_code": lambda status: {"http_code": status},
    "response, a dictionary": lambda status: {"response": answer(status)},
    "response.code": lambda status: {"response": SimpleNamespace(code=status)},
    "meta.status": lambda status: {"meta": SimpleNamespace(status=status)},
    "resp.status": lambda status: {"resp": SimpleNamespace(status=status)},
    "resp.status_code": lambda status: {"resp": SimpleNamespace(status_code=status)},
    'response["status"]': lambda status: {"response": {"status": status}},
    'response["status_code"]': lambda status: {"response": {"status_code": status}},
    'response["code"]': lambda status: {"response": {"code": status}},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((500, FAILURE), (503, FAILURE), (599, FAILURE), (404, ANSWERED), (429, ANSWERED)),
        *((407, IGNORED), (200, IGNORED), (True, IGNORED), (503.0, IGNORED)),
        *(("503", FAILURE), ("404", ANSWERED), ("407", IGNORED), ("200", IGNORED)),
    ],
)
def test_a_status_is_found_there(place, status, outcome):
    assert classify_error(StatusError(**PLACES[place](status))) is outcome


def test_it_is_what_describes_the_error():
    assert describe(StatusError(http_status=502)) == "StatusError 502"
    assert describe(StatusError(response=answer(404))) == "StatusError 404"


class ServiceUnavailable(Exception):  # noqa: N818 - as google-api-core names it
    code = HTTPStatus.SERVICE_UNAVAILABLE


def test_a_status_may_be_an_attribute_of_the_type():
    assert classify_error(ServiceUnavailable()) is FAILURE


@pytest.mark.parametrize("code", [0, 1, 100, 320, 399, 600, 1006, 11_000, -503, None, "invalid"])
def test_a_code_that_is_not_an_error_status_says_nothing(code):
    assert classify_error(StatusError(code=code)) is IGNORED
    assert classify_error(caused(StatusError(code=code), TimeoutError())) is FAILURE


def test_a_code_that_is_a_method_is_not_called():
    called = []

    class RpcLikeError(Exception):
        def code(self):
            called.append(self)

    assert classify_error(RpcLikeError()) is IGNORED
    assert called == []


def test_the_code_of_an_exit_is_not_a_status():
    assert classify_error(SystemExit(503)) is IGNORED
    assert classify_error(caused(ValueError(), SystemExit(503))) is IGNORED


@pytest.mark.parametrize(
    "status",
    [True, False, "5033", 10**5000, -1, 1000, 5.03, 503j, None],
    ids=lambda status: type(status).__name__,
)
def test_what_cannot_be_a_status_is_none(status):
    error = StatusError(status=status)
    assert classify_error(error) is IGNORED
    assert describe(error) == "StatusError"
    assert classify_error(StatusError(status=status, status_code=503)) is FAILURE
    assert classify_status(SimpleNamespace(status=status)) is SUCCESS


def test_a_response_without_a_status_is_no_answer_at_all():
    assert classify_error(StatusError(response=SimpleNamespace(status_code=0))) is IGNORED
    assert classify_error(StatusError(status=0)) is FAILURE


@pytest.mark.parametrize(
    "response", [{}, {"ResponseMetadata": None}, [], "503", 503, answer("unknown")]
)
def test_a_response_of_another_shape_says_nothing(response):
    assert classify_error(StatusError(response=response)) is IGNORED


def test_a_type_that_means_an_outage_weighs_more_than_a_status_of_a_good_answer():
    class CutOffError(TimeoutError):
        status = 200

    assert classify_error(CutOffError()) is FAILURE
    assert classify_error(StatusError(status=200)) is IGNORED


class Reply(Enum):
    UNAVAILABLE = 14


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        # Replies of brokers and mail servers look like a status.
        (error_of("amqp.exceptions.NotAllowed", code=530), ANSWERED),
        (error_of("amqp.exceptions.ConnectionForced", code=320), IGNORED),
        (error_of("aiosmtplib.errors.SMTPDataError", code=550), ANSWERED),
        (error_of("aiosmtplib.errors.SMTPDataError", code=451), ANSWERED),
        (error_of("aiosmtplib.errors.SMTPDataError", code=421), FAILURE),
        (error_of("pymongo.errors.OperationFailure", code=503), ANSWERED),
        (error_of("pymongo.errors.OperationFailure", code=189), FAILURE),
        (error_of("sqlalchemy.exc.OperationalError", code=503), IGNORED),
        (error_of("grpclib.exceptions.GRPCError", status=Reply.UNAVAILABLE), FAILURE),
        (error_of("xmlrpc.client.ProtocolError", errcode=503), FAILURE),
        (error_of("xmlrpc.client.ProtocolError", errcode=401), ANSWERED),
        (error_of("suds.transport.TransportError", httpcode=502), FAILURE),
        (error_of("typesense.exceptions.ServerError", errno=500), FAILURE),
    ],
    ids=repr,
)
def test_each_library_has_its_own_numbers(error, outcome):
    assert classify_error(error) is outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (error_of("urllib3.exceptions.ResponseError", "too many 503 error responses"), FAILURE),
        (error_of("urllib3.exceptions.ResponseError", "too many 429 error responses"), ANSWERED),
        (error_of("urllib3.exceptions.ResponseError", "too many redirects"), IGNORED),
        (error_of("urllib3.exceptions.ResponseError", "too many error responses"), IGNORED),
        (error_of("consul.base.ConsulException", "500 No cluster leader"), FAILURE),
        (error_of("consul.base.ConsulException", "403 Permission denied"), ANSWERED),
        (error_of("consul.base.ConsulException", "no status in it: 500"), IGNORED),
        (error_of("consul.base.ConsulException", b"503 as bytes"), FAILURE),
        (error_of("consul.base.ConsulException", 503), IGNORED),
        (error_of("pycurl.error", 22, "The requested URL returned error: 502"), FAILURE),
        (error_of("pycurl.error", 22, "The requested URL returned error: 404"), ANSWERED),
        (error_of("app.errors.ResponseError", "too many 503 error responses"), IGNORED),
    ],
    ids=str,
)
def test_a_status_may_be_in_the_text_of_a_known_library_only(error, outcome):
    assert classify_error(error) is outcome


# classify_status


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (SimpleNamespace(code=503), FAILURE),
        (SimpleNamespace(code=404), ANSWERED),
        (SimpleNamespace(code=0), SUCCESS),
        ((SimpleNamespace(status=503), b"body"), FAILURE),
        ((SimpleNamespace(status=404), b"body"), ANSWERED),
        ((SimpleNamespace(status=200), b"body"), SUCCESS),
        ((SimpleNamespace(status=407), b"body"), IGNORED),
        ((b"body", SimpleNamespace(status=503)), SUCCESS),
        ((503, "rows"), SUCCESS),
        ((), SUCCESS),
        (SimpleNamespace(response_code=500), FAILURE),
        (SimpleNamespace(meta=SimpleNamespace(status=503)), FAILURE),
    ],
    ids=repr,
)
def test_the_status_of_an_answer_is_found_there_too(answer, outcome):
    assert classify_status(answer) is outcome
