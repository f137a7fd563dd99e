"""The error that each client library raises for an answer."""

import aiohttp
import httpx
import pytest
import requests
from multidict import CIMultiDict, CIMultiDictProxy

from tests.support.driving import ServerError

_REQUEST = httpx.Request("POST", "http://127.0.0.1/")


def aiohttp_error(status, headers=None):
    info = aiohttp.RequestInfo("http://127.0.0.1/", "POST", CIMultiDictProxy(CIMultiDict()), "")
    headers = CIMultiDictProxy(CIMultiDict(headers or {}))
    return aiohttp.ClientResponseError(info, (), status=status, headers=headers)


def httpx_error(status, headers=None):
    response = httpx.Response(status, headers=headers, request=_REQUEST)
    return httpx.HTTPStatusError("", request=_REQUEST, response=response)


def requests_error(status, headers=None):
    response = requests.Response()
    response.status_code = status
    response.headers.update(headers or {})
    return requests.HTTPError(response=response)


class ClientError(Exception):
    """An error with any attributes."""

    def __init__(self, **attributes):
        super().__init__()
        vars(self).update(attributes)


CLIENTS = {
    "aiohttp": aiohttp_error,
    "httpx": httpx_error,
    "requests": requests_error,
    "sdk": ServerError,
}
each_client = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)


def caused_by(cause):
    """Return an error that was raised from another one."""
    error = RuntimeError()
    error.__cause__ = cause
    return error
