"""A breaker that counts nothing is noticed: unknown errors end a hundred of its last 200 calls."""

import asyncio
import json

import pytest

from resilience import BreakerPolicy, CircuitBreaker, Outcome, classify_error
from resilience.retry import transient_retry
from tests.support.driving import (
    ServerError,
    close,
    half_open,
    raise_in,
    rejection,
    trip,
)

FAILURE, IGNORED = Outcome.FAILURE, Outcome.IGNORED


class PaymentError(Exception):
    """What a client raises that no rule knows."""


@pytest.fixture
def breaker(clock):
    """One that no failure of these tests opens."""
    return CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=300), clock=clock)


def warnings(log):
    return [entry["message"] for entry in log if "no rule knows" in entry["message"]]


def ignored_call(breaker):
    raise_in(breaker, OSError(24, "Too many open files"), 1)


def call_without_a_permit(breaker):
    assert breaker(lambda: "sent")() == "sent"


OTHER_CALLS = {
    "success": lambda breaker: breaker.acquire().succeed(),
    "success of a function": call_without_a_permit,
    "failure": lambda breaker: breaker.acquire().fail(),
    "answered": lambda breaker: breaker.acquire().answered(),
    "ignored": ignored_call,
}


def test_a_hundred_errors_that_say_nothing_are_warned_about_once(breaker, log):
    raise_in(breaker, LookupError("hunter2"), 99)
    assert warnings(log) == []
    raise_in(breaker, LookupError("hunter2"), 1)
    (message,) = warnings(log)
    assert "eu-west-1" in message
    assert "hunter2" not in message
    assert log[-1]["level"].name == "WARNING"
    raise_in(breaker, LookupError("hunter2"), 1000)
    assert len(warnings(log)) == 1


@pytest.mark.parametrize("other", OTHER_CALLS)
@pytest.mark.parametrize(("others", "expected"), [(100, 1), (101, 0)])
def test_they_are_a_hundred_of_the_last_200_calls(breaker, log, other, others, expected):
    raise_in(breaker, PaymentError(), 99)
    for _ in range(others):
        OTHER_CALLS[other](breaker)
    raise_in(breaker, PaymentError(), 1)
    assert len(warnings(log)) == expected


def test_they_need_not_be_in_a_row(breaker, log):
    for _ in range(99):
        raise_in(breaker, PaymentError(), 1)
        breaker.acquire().succeed()
    assert warnings(log) == []
    raise_in(breaker, PaymentError(), 1)
    (message,) = warnings(log)
    assert "ignored 100 of the last 199 calls" in message


def test_errors_long_ago_do_not_count(breaker, log):
    raise_in(breaker, PaymentError(), 50)
    for _ in range(200):
        breaker.acquire().succeed()
    raise_in(breaker, PaymentError(), 99)
    assert warnings(log) == []
    raise_in(breaker, PaymentError(), 1)
    assert len(warnings(log)) == 1


class TestWhatDoesNotCount:
    @pytest.mark.parametrize("status", [400, 401, 404, 429])
    def test_client_errors(self, breaker, log, status):
        raise_in(breaker, ServerError(status), 250)
        assert warnings(log) == []

    def test_rejections(self, breaker, clock, log):
        inner = CircuitBreaker("inner", clock=clock)
        trip(inner)
        raise_in(breaker, rejection(inner), 250)
        assert warnings(log) == []

    def test_the_probes_of_a_circuit_that_has_opened(self, clock, log):
        breaker = CircuitBreaker("eu-west-1", clock=clock)
        half_open(breaker, clock)
        raise_in(breaker, PaymentError(), 250)
        assert warnings(log) == []

    def test_an_error_that_somebody_asks_about(self, breaker, log):
        for _ in range(250):
            assert breaker.classify(PaymentError()) is IGNORED
        assert warnings(log) == []

    def test_the_attempts_of_one_call(self, breaker, log):
        retries = transient_retry(
            attempts=4, wait=lambda _: 0, retry=lambda _: True, count_per="attempt"
        )

        @breaker
        @retries
        async def send():
            raise PaymentError

        async def main():
            for _ in range(30):
                with pytest.raises(PaymentError):
                    await send()

        asyncio.run(main())
        assert warnings(log) == []

    def test_an_error_that_the_user_counts(self, clock, log):
        outcomes = iter([IGNORED] * 99 + [FAILURE] + [IGNORED] * 99)
        breaker = CircuitBreaker("eu-west-1", classifier=lambda _: next(outcomes), clock=clock)
        raise_in(breaker, PaymentError(), 100)
        assert warnings(log) == []
        raise_in(breaker, PaymentError(), 1)
        assert len(warnings(log)) == 1


class TestAgain:
    def test_after_they_have_been_rare(self, breaker, log):
        raise_in(breaker, PaymentError(), 100)
        for _ in range(901):  # the first of the next errors is one of a hundred in 1,001 calls
            breaker.acquire().succeed()
        raise_in(breaker, PaymentError(), 99)
        assert len(warnings(log)) == 1
        raise_in(breaker, PaymentError(), 1)
        assert len(warnings(log)) == 2

    def test_not_while_they_are_many(self, breaker, log):
        raise_in(breaker, PaymentError(), 100)
        for _ in range(900):
            breaker.acquire().succeed()
        raise_in(breaker, PaymentError(), 200)
        for _ in range(500):
            breaker.acquire().succeed()
            raise_in(breaker, PaymentError(), 1)
        assert len(warnings(log)) == 1

    def test_after_an_outage(self, clock, log):
        breaker = CircuitBreaker("eu-west-1", clock=clock)
        raise_in(breaker, PaymentError(), 100)
        half_open(breaker, clock)
        close(breaker)
        raise_in(breaker, PaymentError(), 99)
        assert len(warnings(log)) == 1
        raise_in(breaker, PaymentError(), 1)
        assert len(warnings(log)) == 2


class TestTheMostFrequentType:
    def test_it_is_named(self, breaker, log):
        raise_in(breaker, PaymentError(), 51)
        raise_in(breaker, LookupError(), 49)
        (message,) = warnings(log)
        assert "PaymentError" in message
        assert "LookupError" not in message

    def test_another_one_is_named_when_it_has_become_the_most_frequent(self, breaker, log):
        raise_in(breaker, PaymentError(), 100)
        raise_in(breaker, LookupError(), 50)
        assert len(warnings(log)) == 1
        raise_in(breaker, LookupError(), 1)
        assert "LookupError" in warnings(log)[1]
        for _ in range(200):
            raise_in(breaker, LookupError(), 1)
            raise_in(breaker, PaymentError(), 1)
        assert len(warnings(log)) == 2

    def test_types_without_end_do_not_flood_the_log(self, breaker, log):
        for number in range(20):
            raise_in(breaker, type(f"Error{number}", (Exception,), {})(), 100)
        assert len(warnings(log)) == 5


class TestTheAdvice:
    def test_a_builtin_type_needs_no_import(self, breaker, log):
        raise_in(breaker, LookupError(), 100)
        (message,) = warnings(log)
        assert message == (
            "Circuit breaker ignored 100 of the last 100 calls for region eu-west-1: they ended in"
            " errors that no rule knows, most often LookupError; if the region causes them, count"
            " them: from resilience import failures; classifier=failures(LookupError)"
        )

    def test_its_line_can_be_used_as_it_is(self, breaker, log):
        error = json.JSONDecodeError("no object", "", 0)
        raise_in(breaker, error, 100)
        (message,) = warnings(log)
        assert "most often json.decoder.JSONDecodeError; " in message
        line = message.partition("count them: ")[2]
        assert line.startswith("import json.decoder; ")
        namespace = {}
        exec(line, namespace)
        assert namespace["classifier"](error) is FAILURE
        assert classify_error(error) is IGNORED

    def test_a_type_that_cannot_be_imported_has_its_own_name(self, breaker, log):
        class LocalError(Exception):
            pass

        raise_in(breaker, LocalError(), 100)
        assert warnings(log)[0].endswith(
            " count them: from resilience import failures; classifier=failures(LocalError)"
        )

    def test_a_type_of_the_program_itself_needs_no_import(self, breaker, log):
        own = type("OwnError", (Exception,), {"__module__": "__main__"})
        raise_in(breaker, own(), 100)
        assert warnings(log)[0].endswith(
            " count them: from resilience import failures; classifier=failures(OwnError)"
        )

    def test_a_type_that_also_reports_4xx_must_not_be_counted_as_a_whole(self, breaker, log):
        class GatewayError(Exception):
            def __init__(self, http_status):
                super().__init__()
                self.http_status = http_status

        raise_in(breaker, GatewayError(None), 100)
        (message,) = warnings(log)
        assert "GatewayError" in message
        assert "4xx" in message
        assert "failures(" not in message
        assert "classifier of your own" in message

    def test_a_name_cannot_forge_a_line_of_the_log(self, breaker, log):
        odd = type("Odd\nError {} {x}", (Exception,), {"__module__": "odd\nmodule"})
        raise_in(breaker, odd(), 100)
        (message,) = warnings(log)
        assert "\n" not in message
        assert message.count("eu-west-1") == 1


def test_an_error_of_an_odd_class_reaches_the_caller_whatever_the_hints_do_with_it(clock, log):
    class Odd(type):
        __hash__ = None

    class OddError(Exception, metaclass=Odd):
        pass

    breaker = CircuitBreaker("eu-west-1", classifier=lambda _: IGNORED, clock=clock)
    raise_in(breaker, OddError(), 100)
    assert breaker.snapshot().ignored == 100
    assert warnings(log) == []


class OddType(type):
    def __getattribute__(cls, name):
        if name == "__qualname__":
            raise RuntimeError("no name")
        return super().__getattribute__(name)


class OddError(Exception, metaclass=OddType):
    """Of a type that does not want to be named."""


def test_an_error_whose_type_hides_its_name_is_named_all_the_same(breaker, log):
    raise_in(breaker, OddError(), 100)
    assert "OddError" in warnings(log)[0]
    assert breaker.snapshot().ignored == 100
