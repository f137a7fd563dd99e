"""The outcome of a call, and the types of the functions that decide it."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias


class Outcome(StrEnum):
    """The outcome of one call for its region.

    SUCCESS: the region did what it was asked for. FAILURE: the region is down. ANSWERED: the region
    answered, and refused this request. IGNORED: the call says nothing about the region.
    """

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    ANSWERED = "ANSWERED"
    IGNORED = "IGNORED"


class Report(NamedTuple):
    """An outcome, and the reason in short where it is a failure or an ignored probe."""

    outcome: Outcome
    reason: str = ""


class DelayingReport(Report):
    """A failure for which the server may ask for a delay before the next call."""

    retry_after = 0.0  # seconds


class AttemptReport(DelayingReport):
    """The failure of an attempt, after which its call goes on."""


# Reading a member of an enumeration takes 65 ns: these are read for every call.
SUCCESS = Report(Outcome.SUCCESS)
ANSWERED = Report(Outcome.ANSWERED)
IGNORED = Report(Outcome.IGNORED)
#: A call that was cancelled from outside, where the policy counts such calls.
ABANDONED = Report(Outcome.IGNORED, "cancelled")

Classifier: TypeAlias = Callable[[BaseException], Outcome]
# A result may be anything at all, and a user's function names the type that it expects.
ResultClassifier: TypeAlias = Callable[[Any], Outcome]
