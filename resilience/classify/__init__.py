"""Deciding what an error or an answer says about the region that was called."""

from resilience.classify.libraries import safe_getattr
from resilience.classify.rules import (
    classify_error,
    classify_status,
    describe,
    describe_as,
    examine,
    failures,
    root_error,
    status_of,
)

__all__ = [
    "classify_error",
    "classify_status",
    "describe",
    "describe_as",
    "examine",
    "failures",
    "root_error",
    "safe_getattr",
    "status_of",
]
