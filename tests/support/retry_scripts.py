"""Random scripts for retry loops, and all that can be observed of a loop that runs one.

A script says what each attempt does: it returns, raises one of several errors, or is cancelled. The
time is a number that attempts and sleeps move, so that no run depends on the machine.
"""

import asyncio
import random
import time
from collections import deque
from dataclasses import dataclass, field

import tenacity
from tenacity import stop_after_attempt, wait_fixed, wait_none
from tenacity.asyncio import retry as async_conditions


class TransientError(Exception):
    pass


class OtherError(Exception):
    pass


class GaveUp(tenacity.RetryError):
    pass


STEPS = ("ok", "transient", "other", "again", "again from", "linked", "cancelled")
WEIGHTS = (20, 50, 8, 6, 6, 6, 4)


@dataclass
class Run:
    """One call of a loop, and what was observed of it."""

    script: list[str]
    durations: list[float]
    now: float = 100.0
    attempts: int = 0
    seen: list = field(default_factory=list)

    def step(self):
        """Make an attempt."""
        self.seen.append(("attempt", self.attempts, self.now))
        step = self.script[self.attempts % len(self.script)]
        self.now += self.durations[self.attempts % len(self.durations)]
        self.attempts += 1
        return self.perform(step)

    def perform(self, step):
        number = self.attempts
        if step == "ok":
            return number
        if step == "transient":
            raise TransientError(number)
        if step == "other":
            raise OtherError(number)
        if step == "again":
            raise tenacity.TryAgain
        if step == "cancelled":
            raise asyncio.CancelledError  # without a text, which a condition may match
        try:
            raise OtherError("first", number)
        except OtherError as error:
            if step == "linked":
                raise TransientError(number)  # noqa: B904 - its context is looked at
            raise tenacity.TryAgain from error

    def sleep(self, seconds):
        self.seen.append(("sleep", round(seconds, 9), self.now))
        self.now += seconds

    async def sleep_async(self, seconds):
        self.sleep(seconds)

    def hook(self, name, result=None):
        """Return a hook that notes what it is shown."""

        def note(state):
            self.seen.append((name, *self.describe(state)))
            return result

        return note

    def describe(self, state):
        outcome = state.outcome
        return (
            state.attempt_number,
            state.idle_for,
            state.start_time,
            state.seconds_since_start,
            state.args,
            state.kwargs,
            str(state.retry_object),
            state.get_fn_name(),
            outcome and (outcome.attempt_number, describe_error(outcome.exception())),
            dict(state.retry_object.statistics),
        )


def describe_error(error, depth=0):
    """Describe an error and all errors that it refers to."""
    if error is None or depth > 8:
        return None
    attempt = getattr(error, "last_attempt", None)
    shown = error.args if attempt is None else (attempt.attempt_number, attempt.failed)
    return (
        type(error).__name__,
        shown,
        describe_error(error.__cause__, depth + 1),
        describe_error(error.__context__, depth + 1),
        error.__suppress_context__,
    )


def is_transient(error):
    return isinstance(error, TransientError)


async def is_transient_async(error):
    return isinstance(error, TransientError)


def raised_something(state):
    return state.outcome.failed


transient = tenacity.retry_if_exception_type(TransientError)

# What a run adds to `tenacity.retry`; its sleep, and a stop where there is none, come on top.
SETTINGS = {
    "defaults": lambda _: {"stop": stop_after_attempt(4)},
    "reraise": lambda _: {"retry": transient, "wait": wait_fixed(2), "reraise": True},
    "delay": lambda _: {
        "retry": transient,
        "stop": tenacity.stop_after_delay(9),
        "wait": tenacity.wait_exponential(max=30),
    },
    "before delay": lambda _: {
        "stop": tenacity.stop_before_delay(12) | stop_after_attempt(5),
        "wait": tenacity.wait_incrementing(start=1, increment=2),
        "reraise": True,
    },
    "random wait": lambda _: {"wait": tenacity.wait_random_exponential(1, 32), "retry": transient},
    "jitter": lambda _: {"wait": tenacity.wait_exponential_jitter(), "reraise": True},
    "chain": lambda _: {"wait": tenacity.wait_chain(wait_fixed(1), wait_fixed(3), wait_none())},
    "wait by error": lambda run: {"wait": run.hook("wait", 1.5), "retry": transient},
    "predicate": lambda _: {"retry": tenacity.retry_if_exception(is_transient)},
    "message": lambda _: {"retry": tenacity.retry_if_exception_message(match=r"[13]")},
    "cause": lambda _: {"retry": tenacity.retry_if_exception_cause_type(OtherError) | transient},
    "both": lambda _: {"retry": transient & tenacity.retry_if_exception_message(match=r"[124]")},
    "never": lambda _: {"retry": tenacity.retry_never, "reraise": True},
    "hooks": lambda run: {
        "after": run.hook("after"),
        "before_sleep": run.hook("before_sleep"),
        "wait": wait_fixed(1),
        "retry": transient,
    },
    "callback": lambda run: {"retry_error_callback": run.hook("callback", "given up")},
    "error class": lambda _: {"retry_error_cls": GaveUp, "stop": stop_after_attempt(2)},
    "a stop of the user's": lambda run: {
        "stop": run.hook("stop", result=False),
        "retry": transient,
    },
    # These need tenacity from the start.
    "before": lambda run: {"before": run.hook("before"), "before_sleep": run.hook("before_sleep")},
    "result": lambda _: {"retry": tenacity.retry_if_result(lambda result: result < 3) | transient},
    "unless": lambda _: {
        "retry": tenacity.retry_unless_exception_type(OtherError),
        "reraise": True,
    },
    "function": lambda _: {"retry": raised_something, "wait": wait_fixed(1)},
    "not enabled": lambda _: {"enabled": False},
}
ASYNC_SETTINGS = {
    "async predicate": lambda _: {"retry": async_conditions.retry_if_exception(is_transient_async)},
    "async any": lambda _: {
        "retry": async_conditions.retry_if_exception(is_transient_async)
        | tenacity.retry_if_exception_message(match="2")
    },
    "async all": lambda _: {
        "retry": async_conditions.retry_if_exception(is_transient_async) & transient,
        "reraise": True,
    },
}
# They would retry a cancellation, which a gated loop never does.
SWALLOW_CANCELLATIONS = {"unless", "function"}
# They would go on without end.
ENDLESS = {"a stop of the user's"}


def script(chance, name):
    """Return a random script, and how long its attempts take."""
    steps = chance.choices(STEPS, WEIGHTS, k=6)
    if name in SWALLOW_CANCELLATIONS:
        steps = [step for step in steps if step != "cancelled"] or ["ok"]
    if name in ENDLESS:
        steps.append("ok")
    return steps, [chance.choice((0.0, 0.5, 2.0, 4.0)) for _ in range(3)]


def observe(decorate, name, seed, *, is_async, times=2):
    """Run a function in a loop a few times, and return all that was observed.

    Args:
        decorate: Makes the decorator from settings.
        name: Of the settings.
        seed: Of the script.
        is_async: Whether the function is an `async def`.
        times: How often it is called.
    """
    chance = random.Random(f"{name} {seed}")
    run = Run(*script(chance, name))
    settings = (SETTINGS | ASYNC_SETTINGS)[name](run)
    settings = {"stop": stop_after_attempt(3), **settings}
    send = decorated(run, decorate, settings, is_async=is_async)
    random.seed(seed)  # the waits of tenacity use it
    observed = []
    before = time.monotonic
    time.monotonic = lambda: run.now
    try:
        for number in range(times):
            outcome = call(send, number, is_async=is_async, handling=chance.random() < 0.3)
            statistics = dict(send.statistics)
            observed.append((outcome, list(statistics.items()), dict(send.retry.statistics)))
    finally:
        time.monotonic = before
    return observed, run.seen, run.attempts, run.now


def decorated(run, decorate, settings, *, is_async):
    if not is_async:

        @decorate(sleep=run.sleep, **settings)
        def send(number, *, text):
            """Send it."""
            return (run.step(), number, text)

        return send

    @decorate(sleep=run.sleep_async, **settings)
    async def send_async(number, *, text):
        """Send it."""
        return (run.step(), number, text)

    return send_async


def call(send, number, *, is_async, handling):
    """Call a function, and describe what comes out."""
    try:
        if not handling:
            return ("returned", finish(send(number, text="hello"), is_async=is_async))
        try:
            raise KeyError("the caller's own")
        except KeyError:
            return ("returned", finish(send(number, text="hello"), is_async=is_async))
    except BaseException as error:
        return ("raised", describe_error(error))


def finish(result, *, is_async):
    """Run a coroutine that never waits to its end."""
    if not is_async:
        return result
    pending = deque([result])
    try:
        pending[0].send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the call waited for something")
