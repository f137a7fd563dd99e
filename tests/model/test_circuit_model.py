"""The whole breaker against a small model of it, with the default thresholds and with others.

The model is written from the rules, in other terms than the code: it keeps numbered calls, those
of them that may still report, and plain times. Hypothesis lets both live through the same story
(calls that start and end in any order, in every way a call can be made; time that passes or steps
back; what is done by hand; a policy that changes), and all that can be seen from outside is
compared.

Every time is a multiple of 1/8 s, so that no float is rounded and all comparisons are exact.
"""

import asyncio
import contextvars
import itertools
import math
import sys
import types
from collections import Counter
from dataclasses import asdict, dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from loguru import logger

from resilience import Backoff, BreakerPolicy, CircuitBreakerOpenError, CircuitBreakerRegistry
from resilience.testing import FakeClock

CLOSED, OPEN, HALF_OPEN = "CLOSED", "OPEN", "HALF_OPEN"
SUCCESS, FAILURE, ANSWERED, IGNORED = "SUCCESS", "FAILURE", "ANSWERED", "IGNORED"
COUNTERS = {
    SUCCESS: "successes",
    FAILURE: "failures",
    ANSWERED: "answered",
    IGNORED: "ignored",
}
REGION = "eu-west-1"


# The model


@dataclass
class Model:
    """What the rules say about one circuit."""

    policy: BreakerPolicy
    since: float
    state: str = CLOSED
    forced: bool = False
    reason: str | None = None
    streak: int = 0
    good_probes: int = 0
    refused_probes: int = 0
    mute_probes: int = 0  # in a row
    mute_reasons: list[str] = field(default_factory=list)
    warned_at: float | None = None
    warnings: list[str] = field(default_factory=list)
    may_report: dict[int, tuple[float, float]] = field(default_factory=dict)  # call -> its lease
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("successes", "failures", "answered", "ignored", "rejected", "probes", "trips"), 0
        )
    )
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    tripped_by: Counter[str] = field(default_factory=Counter)
    rejected_here: int = 0
    last_failure: float | None = None  # in this CLOSED
    recent: list[tuple[int, bool, bool]] = field(default_factory=list)  # slice, failed, slow
    slices_from: float = 0.0
    slice_now: int = 0
    open_for: float = 0.0  # seconds that this OPEN lasts
    failed_probes: int = 0  # in a row, since CLOSED
    step: int | None = None  # of the ramp: calls at a time
    answers_in_step: int = 0
    running: dict[int, float] = field(default_factory=dict)  # calls on the ramp, since when
    events: list[tuple[object, ...]] = field(default_factory=list)

    def start(self, call: int, now: float) -> tuple[object, ...] | None:
        """Admit a call, or return how it is rejected."""
        self.follow_clock(now)
        wait = self.wait(now)
        if wait != 0:
            self.counts["rejected"] += 1
            if self.step:
                calls = "call" if self.step == 1 else "calls"
                limit = f"at most {self.step} {calls} at a time"
                return CLOSED, f"ramping up after an outage, {limit}", wait
            self.rejected_here += 1
            return self.state, self.reason, wait
        if self.state == OPEN:
            elapsed = f"recovery timeout of {self.open_for:g} s elapsed"
            self.move(HALF_OPEN, elapsed, now, reason=self.reason)
        if self.state == HALF_OPEN:
            while len(self.may_report) >= self.policy.half_open_probes:
                del self.may_report[next(p for p in self.may_report if not self.left(p, now))]
            self.counts["probes"] += 1
        self.may_report[call] = (now, self.lease())
        if self.step:
            if len(self.running) >= self.step:
                del self.running[next(iter(self.running))]
            self.running[call] = now
        return None

    def end(self, call: int, outcome: str, reason: str, now: float, *, final: bool = True) -> None:
        """Take in a report, unless it is late."""
        if call not in self.may_report:
            return
        self.counts[COUNTERS[outcome]] += 1
        slow = self.state == CLOSED and outcome != IGNORED and self.look_back(call, outcome, now)
        if final or self.state == HALF_OPEN:
            del self.may_report[call]
            self.climb(call, outcome)
        if outcome == FAILURE:
            if self.state == HALF_OPEN:
                self.streak += 1
                self.failed_probes += 1
                self.move(OPEN, reason, now, reason=reason)
            else:
                self.fail(reason, now)
        elif outcome == SUCCESS:
            self.streak = 0
            self.answer(now, refused=False)
        elif outcome == ANSWERED:
            self.answer(now, refused=True)
        elif self.state == HALF_OPEN:
            self.say_nothing(reason, now)
        if slow and self.state == CLOSED:
            self.trip(self.too_many(), now)

    def fail(self, reason: str, now: float) -> None:
        """Take in a failure in CLOSED, which may trip the circuit by any rule."""
        last, longest = self.last_failure, self.policy.streak_window
        is_new = longest is not None and last is not None and now - last > longest
        self.streak = 1 if is_new else self.streak + 1
        self.last_failure = now
        by_streak = self.streak >= self.policy.failure_threshold
        self.trip(("streak", reason) if by_streak else self.too_many(), now)

    def climb(self, call: int, outcome: str) -> None:
        """Take a call off the ramp; enough answers make the next step."""
        if self.running.pop(call, None) is None:
            return
        self.answers_in_step += outcome in (SUCCESS, ANSWERED)
        if self.answers_in_step >= self.step:
            self.answers_in_step = 0
            self.step = math.ceil(self.step * self.policy_of_ramp[1])
            self.step = None if self.step > 1000 else self.step

    def lease(self) -> float:
        timeout = self.policy.recovery_timeout
        longest = timeout.maximum if isinstance(timeout, Backoff) else timeout
        return self.policy.probe_timeout or longest

    def next_wait(self) -> float:
        timeout = self.policy.recovery_timeout
        if isinstance(timeout, Backoff):
            return min(timeout.first * timeout.factor**self.failed_probes, timeout.maximum)
        return timeout

    def trip(self, why: tuple[str, str] | None, now: float) -> None:
        if why is not None:
            self.counts["trips"] += 1
            self.tripped_by[why[0]] += 1
            self.move(OPEN, why[1], now, reason=why[1], rule=why[0])

    def look_back(self, call: int, outcome: str, now: float) -> bool:
        """Remember a call that has ended, in its sixtieth of the window; return if it was slow."""
        if not self.watches_rates():
            return False
        width = self.policy.window / 60
        if now < self.slices_from + self.slice_now * width:
            self.slices_from = now - self.slice_now * width
        self.slice_now = max(self.slice_now, int((now - self.slices_from) / width))
        limit = self.policy.slow_call_duration
        slow = limit is not None and now - self.may_report[call][0] >= limit
        self.recent = [one for one in self.recent if one[0] > self.slice_now - 60]
        self.recent.append((self.slice_now, outcome == FAILURE, slow))
        return slow

    def too_many(self) -> tuple[str, str] | None:
        """Return the rate that has reached its threshold, and how it is described."""
        policy, calls = self.policy, len(self.recent)
        if not self.watches_rates() or calls < policy.minimum_calls:
            return None
        text = f"{calls} calls in {policy.window:g} s"
        failed, slow = (sum(one[which] for one in self.recent) for which in (1, 2))
        limit = policy.failure_rate_threshold
        if limit is not None and failed >= limit * calls:
            how = f"{failed / calls * 100:.0f} % of {text} (threshold {limit * 100:g} %)"
            return "failure rate", f"failure rate {how}"
        limit, slow_from = policy.slow_call_rate_threshold, policy.slow_call_duration
        if limit is not None and slow >= limit * calls:
            how = f"{slow / calls * 100:.0f} % of {text} (threshold {limit * 100:g} %"
            return "slow call rate", f"slow call rate {how}, slow from {slow_from:g} s)"
        return None

    def watches_rates(self) -> bool:
        policy = self.policy
        return bool(policy.failure_rate_threshold or policy.slow_call_rate_threshold)

    def configure(self, policy: BreakerPolicy) -> None:
        """Follow another policy; where calls are measured in another way, forget them."""
        old, before, self.policy = self.measured(), self.policy.recovery_timeout, policy
        if policy.recovery_timeout != before:
            self.open_for = self.next_wait()
        if policy.ramp is None:
            self.step, self.running = None, {}
        if self.state == CLOSED and self.measured() != old:
            self.may_report, self.recent = {}, []
            self.step, self.running = None, {}
            self.slices_from, self.slice_now = self.since, 0

    def measured(self) -> object:
        policy = self.policy
        return self.watches_rates() and (policy.window, policy.slow_call_duration)

    def answer(self, now: float, *, refused: bool) -> None:
        """Take in that the region has answered: enough answers to probes close the circuit."""
        if self.state != HALF_OPEN:
            return
        self.mute_probes, self.mute_reasons = 0, []
        self.good_probes += 1
        self.refused_probes += refused
        if self.good_probes >= self.policy.success_threshold:
            ramp = self.policy.ramp
            one, many = ("answer", "answers") if self.refused_probes else ("success", "successes")
            how = f"consecutive {many}" if self.good_probes > 1 else one
            self.streak = 0
            self.move(CLOSED, f"{self.good_probes} {how}", now, step=ramp and ramp[0])

    def say_nothing(self, reason: str, now: float) -> None:
        """Take in a probe that says nothing, and warn about a long row of them."""
        self.mute_probes += 1
        if reason in self.mute_reasons:
            self.mute_reasons.remove(reason)
        self.mute_reasons = [*self.mute_reasons, reason][-5:]
        last = self.warned_at
        timeout = self.policy.recovery_timeout
        quiet = timeout.maximum if isinstance(timeout, Backoff) else timeout
        is_time = last is None or now < last or now - last >= quiet
        if self.mute_probes >= 10 and is_time:
            self.warned_at = now
            names = ", ".join(self.mute_reasons)
            self.warnings.append(f"{self.mute_probes} probes in a row were ignored: {names}")

    def drop(self, call: int) -> None:
        """End a call whose failure was counted already."""
        self.may_report.pop(call, None)

    def reset(self, now: float) -> None:
        self.streak = 0
        self.move(CLOSED, "reset by hand", now, silent=self.state == CLOSED)

    def force(self, why: str, now: float) -> None:
        if not (self.forced and self.reason == f"forced open: {why}"):
            text = f"forced open: {why}"
            self.move(OPEN, text, now, reason=text, forced=True)

    def move(
        self, new, why, now, *, reason=None, forced=False, silent=False, rule=None, step=None
    ) -> None:
        old, self.state = self.state, new
        self.open_for = self.next_wait()
        self.failed_probes *= new != CLOSED
        self.step, self.answers_in_step, self.running = step, 0, {}
        self.policy_of_ramp, self.ramp_lease = self.policy.ramp, self.lease()
        lasted, rejected = max(0.0, now - self.since), self.rejected_here
        self.since, self.forced, self.reason = now, forced, reason
        self.may_report, self.good_probes, self.rejected_here = {}, 0, 0
        self.refused_probes, self.mute_probes, self.mute_reasons = 0, 0, []
        self.warned_at = None
        self.last_failure, self.recent, self.slices_from, self.slice_now = None, [], now, 0
        if not silent:
            self.moves[old, new] += 1
            wait = self.wait(now)
            self.events.append((old, new, why, now, self.streak, wait, rejected, lasted, rule))

    def follow_clock(self, now: float) -> None:
        """Start again whatever a clock that stepped back finds begun in the future."""
        if self.state == OPEN:
            self.since = min(self.since, now)
        elif self.state == HALF_OPEN:
            self.may_report = {
                probe: (min(begin, now), length)
                for probe, (begin, length) in self.may_report.items()
            }
        elif self.running:
            oldest = next(iter(self.running))
            if now < self.running[oldest]:
                self.running[oldest] = now
                self.may_report[oldest] = (now, self.may_report[oldest][1])

    def surrounds(self, call: int, now: float) -> bool:
        """Whether a call inside this one is part of it: it is a probe, in its time."""
        if call in self.running:
            return True
        return self.state == HALF_OPEN and call in self.may_report and self.left(call, now) > 0

    # What one sees

    def left(self, call: int, now: float) -> float:
        begin, length = self.may_report[call]
        return max(0.0, min(begin, now) + length - now)

    def wait(self, now: float) -> float | None:
        if self.forced:
            return None
        if self.state == OPEN:
            return max(0.0, min(self.since, now) + self.open_for - now)
        if self.step and len(self.running) >= self.step:
            begin = next(iter(self.running.values()))
            return max(0.0, min(1.0, min(begin, now) + self.ramp_lease - now))
        if self.state == HALF_OPEN:
            must_go = len(self.may_report) + 1 - self.policy.half_open_probes
            if must_go > 0:
                leases = sorted(self.left(call, now) for call in self.may_report)
                return min(1.0, leases[must_go - 1])
        return 0.0

    def snapshot(self, now: float) -> dict[str, object]:
        due = self.state == OPEN and self.wait(now) == 0
        return {
            "region": REGION,
            "state": HALF_OPEN if due else self.state,
            "since": self.since + self.open_for * due,
            "streak": self.streak,
            "retry_after": self.wait(now),
            "reason": self.reason,
            **self.counts,
            "transitions": tuple((*move, count) for move, count in self.moves.items()),
            "shared": None,
            "ignored_probes": self.mute_probes,
            "ignored_reasons": tuple(self.mute_reasons),
            "throttled_tenants": 0,
            "longest_wait": 0.0,
            "mode": "enforce",
            "trips_by_rule": tuple(self.tripped_by.items()),
            "drain": None,
            "registry": "",
        }


# The ways to make a call


class ServerError(Exception):
    status = 503


class RefusedError(Exception):
    status = 404


@types.coroutine
def pause():
    return (yield)


async def work():
    """Run until the test sends what it ends with."""
    end = await pause()
    if isinstance(end, BaseException):
        raise end
    return end


class PermitCall:
    """`permit = breaker.acquire()`, settled by hand."""

    why_ignored = "reported by the caller"

    def __init__(self, breaker):
        self.permit = breaker.acquire()

    def succeed(self):
        self.permit.succeed()
        self.permit.fail()  # the second settlement changes nothing, nor does a third

    def fail(self):
        self.permit.fail(ServerError())
        self.permit.succeed()

    def answered(self):
        self.permit.answered()
        self.permit.fail(ServerError())

    def ignore(self):
        self.permit.ignore()
        self.permit.attempt_failed(ServerError())


class BlockCall:
    """`with breaker.acquire():`, in a context of its own as a task has it."""

    why_ignored = "ValueError"

    def __init__(self, breaker):
        self.context = contextvars.Context()
        self.permit = breaker.acquire()
        self.context.run(self.permit.__enter__)

    def end(self, *error):
        self.context.run(self.permit.__exit__, *error)

    def succeed(self):
        self.end(None, None, None)

    def fail(self):
        self.end(ServerError, ServerError(), None)

    def answered(self):
        self.end(RefusedError, RefusedError(), None)

    def ignore(self):
        self.end(ValueError, ValueError("a bug in the block"), None)


class CoroutineCall:
    """`await breaker.call(work)`, driven by hand, in a context of its own as a task has it."""

    why_ignored = "cancelled"

    def __init__(self, breaker):
        self.context = contextvars.Context()
        self.coroutine = self.make(breaker)
        self.context.run(self.coroutine.send, None)

    def make(self, breaker):
        return breaker.call(work)

    def end(self, sent, expected):
        with pytest.raises(expected):
            self.context.run(self.coroutine.send, sent)

    def succeed(self):
        self.end("delivered", StopIteration)

    def fail(self):
        self.end(ServerError(), ServerError)

    def answered(self):
        self.end(RefusedError(), RefusedError)

    def ignore(self):
        self.end(asyncio.CancelledError(), asyncio.CancelledError)


class DecoratedCall(CoroutineCall):
    """`@breaker` on an async def: the fast way."""

    def make(self, breaker):
        return breaker(work)()


class DecoratedAwaitableCall(CoroutineCall):
    """`@breaker` on a def that returns an awaitable."""

    def make(self, breaker):
        def deliver():
            return work()

        return breaker(deliver)()

    def ignore(self):
        self.context.run(self.coroutine.close)


def settle(call, outcome):
    ends = {
        SUCCESS: call.succeed,
        FAILURE: call.fail,
        ANSWERED: call.answered,
        IGNORED: call.ignore,
    }
    ends[outcome]()


WAYS = (
    PermitCall,
    BlockCall,
    CoroutineCall,
    DecoratedCall,
    DecoratedAwaitableCall,
)


# Both, side by side

eighths = st.integers(1, 8 * 130).map(lambda count: count / 8)
rates = {
    "failure_threshold": st.integers(2, 12),
    "recovery_timeout": st.sampled_from([1.0, 60.0, Backoff(1, 2, 6), Backoff(8)]),
    "ramp": st.sampled_from([None, None, (1, 2), (2, 1.5)]),
    "probe_timeout": st.sampled_from([None, 0.5, 60.0]),
    "success_threshold": st.integers(1, 2),
    "streak_window": st.sampled_from([None, 0.5, 8.0]),
    "failure_rate_threshold": st.sampled_from([None, 0.25, 0.5, 1.0]),
    "minimum_calls": st.integers(1, 8),
    "window": st.sampled_from([7.5, 15.0]),  # its sixtieths are eighths of a second as well
}
slow_calls = {
    "slow_call_duration": st.sampled_from([0.125, 2.0]),
    "slow_call_rate_threshold": st.sampled_from([0.5, 1.0]),
}
policies = st.one_of(
    st.just(BreakerPolicy()),
    st.builds(
        BreakerPolicy,
        failure_threshold=st.integers(1, 4),
        recovery_timeout=st.sampled_from([1.0, 5.0, 60.0]),
        success_threshold=st.integers(1, 4),
        half_open_probes=st.integers(1, 3),
        probe_timeout=st.sampled_from([None, 0.5, 2.0, 60.0]),
    ),
    st.builds(BreakerPolicy, **rates),
    st.builds(BreakerPolicy, **rates, **slow_calls),
)
ways = st.sampled_from(WAYS)
outcomes = st.sampled_from([SUCCESS, FAILURE, ANSWERED, IGNORED])
some = st.integers(0, 2**16)


class BreakerAgainstModel(RuleBasedStateMachine):
    @initialize(policy=policies)
    def begin(self, policy):
        self.clock = FakeClock(1000.0)
        self.registry = CircuitBreakerRegistry(policy, clock=self.clock)
        self.breaker = self.registry.get(REGION)
        self.events = []
        self.breaker.listen(self.events.append)
        self.model = Model(policy, 1000.0)
        self.numbers = itertools.count()
        self.calls = {}  # number -> how it was made
        self.counted = set()  # those of which an attempt has been counted
        self.lines = []
        self.sink = logger.add(
            lambda message: self.lines.append(message.record["message"]), level="WARNING"
        )

    def start(self, way):
        number = next(self.numbers)
        expected = self.model.start(number, self.clock())
        if expected is None:
            self.calls[number] = way(self.breaker)
            return number
        with pytest.raises(CircuitBreakerOpenError) as caught:
            way(self.breaker)
        error = caught.value
        assert (error.region, error.state, error.reason, error.retry_after) == (REGION, *expected)
        assert error.__cause__ is error.__context__ is None
        return None

    def fail_until_open(self, way):
        while self.model.state == CLOSED:
            number = self.start(way)
            if number is None:  # the ramp has no place
                self.clock.advance(self.breaker.retry_after)
            else:
                self.end(number, FAILURE)

    def end(self, number, outcome):
        call = self.calls.pop(number)
        settle(call, outcome)
        if outcome == FAILURE and number in self.counted:
            self.model.drop(number)
        else:
            reason = call.why_ignored if outcome == IGNORED else "ServerError 503"
            self.model.end(number, outcome, reason, self.clock())

    @rule(way=ways)
    def start_a_call(self, way):
        self.start(way)

    @precondition(lambda self: any(hasattr(call, "context") for call in self.calls.values()))
    @rule(which=some, outcome=outcomes)
    def a_call_inside_a_call(self, which, outcome):
        outer = [number for number, call in self.calls.items() if hasattr(call, "context")]
        number = outer[which % len(outer)]
        context = self.calls[number].context

        def acquire_inside(breaker):
            return PermitCall(types.SimpleNamespace(acquire=lambda: context.run(breaker.acquire)))

        if not self.model.surrounds(number, self.clock()):
            self.start(acquire_inside)
        else:
            inner = acquire_inside(self.breaker)
            settle(inner, outcome)

    @precondition(lambda self: self.calls)
    @rule(which=some, outcome=outcomes)
    def end_a_call(self, which, outcome):
        self.end(list(self.calls)[which % len(self.calls)], outcome)

    @rule(times=st.integers(1, 12), way=ways, outcome=outcomes)
    def calls_one_after_the_other(self, times, way, outcome):
        for _ in range(times):
            number = self.start(way)
            if number is not None:
                self.end(number, outcome)

    @precondition(lambda self: not self.model.forced)
    @rule(way=ways, probes=st.integers(1, 3))
    def go_on_to_half_open(self, way, probes):
        self.fail_until_open(way)
        self.clock.advance(self.breaker.retry_after)
        for _ in range(probes):
            self.start(way)

    @precondition(lambda self: not self.model.forced)
    @rule(row=st.lists(ways, min_size=8, max_size=13), pause=st.sampled_from([0.0, 0.5, 8.0]))
    def probes_that_say_nothing(self, row, pause):
        self.fail_until_open(PermitCall)
        self.clock.advance(self.breaker.retry_after)
        for way in row:
            number = self.start(way)
            if number is not None:
                self.end(number, IGNORED)
            self.clock.advance(pause)
            self.the_warnings_about_probes_that_say_nothing_are_the_same()

    @rule(fault=st.sampled_from([None, ServerError, RefusedError, ValueError]))
    def a_plain_function_call(self, fault):
        @self.breaker
        def deliver():
            if fault is not None:
                raise fault
            return "delivered"

        number, now = next(self.numbers), self.clock()
        if self.model.start(number, now) is not None:
            with pytest.raises(CircuitBreakerOpenError):
                deliver()
        elif fault is None:
            assert deliver() == "delivered"
            self.model.end(number, SUCCESS, "", now)
        else:
            with pytest.raises(fault):
                deliver()
            outcome = {ServerError: FAILURE, RefusedError: ANSWERED, ValueError: IGNORED}[fault]
            reason = "ValueError" if outcome == IGNORED else "ServerError 503"
            self.model.end(number, outcome, reason, now)

    @precondition(lambda self: self.model.state == HALF_OPEN and self.model.may_report)
    @rule(way=ways, early=st.sampled_from([0.0, 0.125]))
    def probes_hang(self, way, early):
        now = self.clock()
        self.clock.advance(max(self.model.left(call, now) for call in self.model.may_report))
        self.clock.advance(-early)
        self.start(way)

    @precondition(lambda self: any(isinstance(c, PermitCall) for c in self.calls.values()))
    @rule(which=some)
    def count_a_failed_attempt(self, which):
        numbers = [n for n, call in self.calls.items() if isinstance(call, PermitCall)]
        self.attempt_failed(numbers[which % len(numbers)])

    @rule(attempts=st.integers(1, 5), outcome=outcomes)
    def a_call_with_failed_attempts(self, attempts, outcome):
        number = self.start(PermitCall)
        if number is not None:
            for _ in range(attempts):
                self.attempt_failed(number)
            self.end(number, outcome)

    def attempt_failed(self, number):
        self.calls[number].permit.attempt_failed(ServerError())
        self.counted.add(number)
        self.model.end(number, FAILURE, "ServerError 503", self.clock(), final=False)

    @rule(seconds=eighths)
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    @rule(seconds=eighths)
    def the_clock_steps_back(self, seconds):
        self.clock.advance(-seconds)

    @precondition(lambda self: self.model.wait(self.clock()))
    @rule(early=st.sampled_from([0.0, 0.125]))
    def wait_as_told(self, early):
        self.clock.advance(self.breaker.retry_after - early)

    @rule()
    def reset(self):
        self.breaker.reset()
        self.model.reset(self.clock())

    @precondition(lambda self: self.model.forced)
    @rule()
    def end_what_was_forced(self):
        self.reset()

    @rule(why=st.sampled_from(["maintenance", "an incident"]))
    def force_open(self, why):
        self.breaker.force_open(why)
        self.model.force(why, self.clock())

    @rule(policy=policies, own=st.booleans())
    def configure(self, policy, own):
        if own:
            self.registry.configure(policies={REGION: policy})
        else:
            self.registry.configure(policy=policy, policies=None)
        self.model.configure(policy)

    @invariant()
    def all_that_can_be_seen_is_the_same(self):
        self.model.follow_clock(self.clock())
        expected = self.model.snapshot(self.clock())
        assert asdict(self.breaker.snapshot()) == expected
        assert self.breaker.state == expected["state"]
        assert self.breaker.retry_after == expected["retry_after"]
        assert self.breaker.policy == self.model.policy

    @invariant()
    def the_events_are_the_same_and_each_begins_where_the_last_one_ended(self):
        seen = [
            (
                *(e.old, e.new, e.reason, e.at, e.streak, e.retry_after),
                *(e.rejected, e.duration, e.rule),
            )
            for e in self.events
        ]
        assert seen == self.model.events
        states = [CLOSED, *(event.new for event in self.events)]
        assert [event.old for event in self.events] == states[:-1]

    @invariant()
    def the_warnings_about_probes_that_say_nothing_are_the_same(self):
        seen = [line for line in self.lines if "stays HALF_OPEN" in line]
        start = f"Circuit breaker stays HALF_OPEN for region {REGION}, "
        assert seen == [start + warning for warning in self.model.warnings]

    def teardown(self):
        for number in list(getattr(self, "calls", ())):
            self.end(number, FAILURE)
            self.all_that_can_be_seen_is_the_same()
        logger.remove(self.sink)


@pytest.fixture
def quiet():
    """Keep thousands of lines out of the reports; the machine has a sink of its own."""
    logger.remove()
    yield
    logger.add(sys.stderr)


@pytest.mark.usefixtures("quiet")
def test_the_breaker_does_what_the_model_says():
    run_state_machine_as_test(
        BreakerAgainstModel,
        settings=settings(
            max_examples=100,
            stateful_step_count=50,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
