"""Classifying errors and answers: is the region that was called down?"""

from resilience.classify.arguments import check_classifiers
from resilience.classify.client_errors import says_client_errors
from resilience.classify.failures import CountTypes, failures
from resilience.classify.reading import read, safe_getattr
from resilience.classify.rules import (
    classify_error,
    classify_status,
    describe,
    describe_as,
    examine,
    is_throttled,
    root_error,
)
from resilience.classify.status import REQUEST_TIMEOUT, TOO_MANY_REQUESTS, status_of
from resilience.classify.type_names import full_name

__all__ = [
    "REQUEST_TIMEOUT",
    "TOO_MANY_REQUESTS",
    "CountTypes",
    "check_classifiers",
    "classify_error",
    "classify_status",
    "describe",
    "describe_as",
    "examine",
    "failures",
    "full_name",
    "is_throttled",
    "read",
    "root_error",
    "safe_getattr",
    "says_client_errors",
    "status_of",
]
