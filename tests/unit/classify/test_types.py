"""The name of a type, and whether its errors also say a 4xx."""

import json
import urllib.error

import aiohttp
import httpx
import pytest
import redis
import requests
import urllib3

from resilience.classify import full_name, says_client_errors
from tests.support.classifying import StatusError, type_of


class Outer:
    class InnerError(Exception):
        pass


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (redis.ConnectionError, "redis.exceptions.ConnectionError"),
        (TimeoutError, "TimeoutError"),
        (httpx.ConnectError, "httpx.ConnectError"),
        (aiohttp.ClientError, "aiohttp.client_exceptions.ClientError"),
        (Outer.InnerError, "tests.unit.classify.test_types.Outer.InnerError"),
        (type_of("nowhere.MyError"), "nowhere.MyError"),
        (type_of("nowhere._private.MyError"), "nowhere._private.MyError"),
    ],
)
def test_the_full_name_of_a_type(kind, name):
    assert full_name(kind) == name


def test_a_type_of_a_private_module_is_named_by_the_package_that_offers_it(monkeypatch):
    kind = type_of("redis._hidden.errors.HiddenError")
    monkeypatch.setattr(redis, "HiddenError", kind, raising=False)
    assert full_name(kind) == "redis.HiddenError"


def test_a_type_whose_module_does_not_have_it_is_named_by_the_package_that_does(monkeypatch):
    kind = type_of("redis.exceptions.MovedError")
    monkeypatch.setattr(redis, "MovedError", kind, raising=False)
    assert full_name(kind) == "redis.MovedError"


def test_a_type_without_a_module_has_a_name_all_the_same():
    assert full_name(type("MyError", (Exception,), {"__module__": None})) == "MyError"


class BotoLikeError(Exception):
    def __init__(self, answer):
        self.response = answer


class AnnotatedError(Exception):
    status_code: int


class PropertyError(Exception):
    @property
    def http_status(self):
        return 404


class DerivedError(PropertyError):
    pass


class BaseOfStatusErrors(Exception):  # noqa: N818 - it is about the base
    pass


class StatusOfThatBaseError(BaseOfStatusErrors):
    status = 404


class SilentError(Exception):
    pass


class MessageError(Exception):
    def __init__(self, message):
        super().__init__(message)
        self.message = message


@pytest.mark.parametrize(
    "kind",
    [
        BotoLikeError,
        AnnotatedError,
        PropertyError,
        DerivedError,
        BaseOfStatusErrors,
        aiohttp.ClientResponseError,
        aiohttp.ClientError,
        httpx.HTTPStatusError,
        httpx.HTTPError,
        requests.RequestException,
        urllib.error.HTTPError,
        urllib.error.URLError,
        redis.ResponseError,
        redis.RedisError,
        type_of("psycopg.OperationalError"),
        type_of("hvac.exceptions.RateLimitExceeded"),
    ],
)
def test_a_type_that_also_says_4xx(kind):
    assert says_client_errors(kind)


@pytest.mark.parametrize(
    "kind",
    [
        SilentError,
        MessageError,
        json.JSONDecodeError,  # although requests derives one with a response from it
        StatusError,
        TimeoutError,
        OSError,
        KeyError,
        Exception,
        redis.ConnectionError,
        requests.ConnectionError,
        aiohttp.ClientConnectionError,
        httpx.ConnectError,
        urllib3.exceptions.MaxRetryError,
        type_of("pika.exceptions.AMQPConnectionError"),
        type_of("pika.exceptions.AMQPError"),
    ],
)
def test_a_type_that_does_not(kind):
    assert not says_client_errors(kind)
