"""A bounded number of inputs that a stranger may send; `make fuzz` tries them for an hour."""

import pytest
from hypothesis import HealthCheck, given, settings

from tests.model import hostile_input as hostile

bounded = settings(
    max_examples=150,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@bounded
@given(hostile.TEXTS, hostile.TEXTS)
def test_names(one, other):
    hostile.check_names(one, other)


@bounded
@given(hostile.TEXTS)
def test_reasons(reason):
    hostile.check_reasons(reason)


@settings(bounded, max_examples=200)
@given(hostile.ERRORS)
def test_errors(recipe):
    hostile.check_errors(recipe)


@bounded
@given(hostile.HEADERS)
def test_headers(headers):
    hostile.check_headers(headers)


@settings(bounded, max_examples=200)
@given(hostile.st.lists(hostile.REPLIES, max_size=5))
def test_records(answers):
    hostile.check_records(answers)


@pytest.fixture(scope="module")
def page():
    served = hostile.Page()
    yield served
    served.close()


@settings(bounded, suppress_health_check=list(HealthCheck))
@given(request=hostile.REQUESTS)
def test_requests(page, request):
    hostile.check_requests(page, request)
