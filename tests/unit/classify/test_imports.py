"""No client library is imported, and each is known whenever it is imported."""

import sys
from types import SimpleNamespace

import pytest

from resilience import Outcome, classify_error
from tests.support.classifying import run_python


def test_importing_the_package_loads_no_client_and_no_tenacity():
    loaded = run_python(
        """
        import sys, resilience
        for name in ("aiohttp", "tenacity", "httpx", "requests", "urllib3", "trio", "redis"):
            if name in sys.modules:
                print(name)
        """
    )
    assert loaded == []


def test_classifying_imports_no_client():
    outcomes = run_python(
        """
        import socket, sys
        from resilience import classify_error
        before = set(sys.modules)

        class ApiError(Exception):
            status = 503

        wrapped = ValueError()
        wrapped.__cause__ = TimeoutError()
        errors = [
            TimeoutError(), ConnectionResetError(), socket.gaierror(), ApiError(), ValueError(),
            FileNotFoundError(2, "no"), wrapped, ExceptionGroup("", [ApiError()]),
        ]
        print(*[classify_error(error).name for error in errors])
        print(sorted(
            name for name in set(sys.modules) - before
            if name.split(".")[0] in {"aiohttp", "tenacity", "httpx", "requests", "urllib3", "ssl"}
        ))
        """
    )
    assert outcomes == [" ".join(["FAILURE"] * 4 + ["IGNORED"] * 2 + ["FAILURE"] * 2), "[]"]


def test_classifying_works_where_the_clients_cannot_be_imported():
    outcomes = run_python(
        """
        import sys
        for name in ("aiohttp", "tenacity", "httpx", "requests", "urllib3"):
            sys.modules[name] = None
        from resilience import classify_error
        print(classify_error(TimeoutError()).name, classify_error(ValueError()).name)
        """
    )
    assert outcomes == ["FAILURE IGNORED"]


@pytest.mark.parametrize("name", ["aiohttp", "httpx", "urllib3", "requests"])
def test_a_client_imported_after_the_first_error_is_known_all_the_same(name):
    error = {
        "aiohttp": "aiohttp.ServerDisconnectedError()",
        "httpx": "httpx.ReadTimeout('slow')",
        "urllib3": "urllib3.exceptions.ProtocolError('Connection aborted.')",
        "requests": "requests.exceptions.ChunkedEncodingError('truncated')",
    }[name]
    outcomes = run_python(
        f"""
        from resilience import classify_error
        print(classify_error(ValueError()).name)
        import {name}
        print(classify_error({error}).name, classify_error(ValueError()).name)
        """
    )
    assert outcomes == ["IGNORED", "FAILURE IGNORED"]


def test_a_client_whose_errors_are_not_types_says_nothing(monkeypatch):
    class NewError(Exception):
        pass

    monkeypatch.setitem(sys.modules, "trio", SimpleNamespace(TooSlowError="not a type"))
    assert classify_error(NewError()) is Outcome.IGNORED
