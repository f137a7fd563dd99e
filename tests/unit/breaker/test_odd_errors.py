"""Whatever an error is made of, it reaches its caller, and its call is counted."""

import asyncio
import signal
import sys
from concurrent.futures import Future
from functools import partial

import pytest
from tenacity import Retrying, retry, stop_after_attempt, wait_none

from resilience import (
    Backoff,
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerRegistry,
    Outcome,
    classify_error,
    classify_status,
    failures,
    region_breaker,
)
from resilience._introspection import is_defined_by_python
from resilience.retry import transient_retry
from resilience.testing import FakeClock
from tests.support.driving import CLOSED, HALF_OPEN, admits, counters, half_open
from tests.support.odd_errors import FAILURE, SHAPES, OddObject, Unrelated, made, metaclass, raising

NAMES = {FAILURE: "failures", Outcome.ANSWERED: "answered", Outcome.IGNORED: "ignored"}


def make_breaker(**settings):
    return CircuitBreaker("eu-west-1", clock=FakeClock(), **settings)


def run(coroutine):
    """Run without asyncio, which does not survive every error at the end of a task."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as end:
        return end.value


def sync_function(breaker, error):
    @breaker
    def send():
        raise error

    send()


def async_function(breaker, error):
    @breaker
    async def send():
        await asyncio.sleep(0)
        raise error

    run(send())


def call(breaker, error):
    async def send():
        raise error

    run(breaker.call(send))


def block(breaker, error):
    with breaker.acquire():
        raise error


def attempt_and_block(breaker, error):
    with breaker.acquire() as permit:
        permit.attempt_started()
        raise error


def reported(breaker, error):
    """By a caller that knows better, or as well."""
    permit = breaker.acquire()
    if breaker.classify(error) is FAILURE:
        permit.attempt_failed(error)
        permit.fail(error)
    elif breaker.classify(error) is Outcome.ANSWERED:
        permit.answered()
    else:
        permit.ignore()
    raise error


def awaited_result(breaker, error):
    async def send():
        raise error

    @breaker
    def start():
        return send()

    async def main():
        await start()

    run(main())


def loop_inside(breaker, error):
    @breaker
    def send():
        for attempt in Retrying(stop=stop_after_attempt(1), wait=wait_none(), reraise=True):
            with attempt:
                raise error

    send()


def tenacity_below(breaker, error):
    @breaker
    @retry(stop=stop_after_attempt(1), wait=wait_none(), reraise=True)
    def send():
        raise error

    send()


def own_preset_below(breaker, error):
    @breaker
    @transient_retry(attempts=1)
    def send():
        raise error

    send()


LOOPS = [loop_inside, tenacity_below, own_preset_below]
WAYS = [
    sync_function,
    async_function,
    call,
    block,
    attempt_and_block,
    reported,
    awaited_result,
    *LOOPS,
]


def error_out_of(way, breaker, error):
    try:
        way(breaker, error)
    except BaseException as raised:
        return raised
    return None


def no_breaker(fn):
    return fn


def problems(way, breaker_of, count, log):
    """What goes wrong with each shape; no shape is looked at twice, so that all are new."""
    for name, make, outcome in SHAPES:
        breaker, error = breaker_of(), make()
        if way in LOOPS and error_out_of(way, no_breaker, error) is not error:
            continue  # tenacity alone does not survive it
        log.clear()
        raised = error_out_of(way, breaker, error)
        if raised is not error:
            yield f"{name}: the caller got a {type(raised).__name__}"
        if count(breaker) != {NAMES[outcome]: 1}:
            yield f"{name}: counted {count(breaker)}, not one of {outcome}"
        if len(log) > 1:
            yield f"{name}: {len(log)} lines are logged"
        if any("hunter2" in line["message"] for line in log):
            yield f"{name}: its text is logged"


def test_there_are_many_shapes():
    assert len(SHAPES) > 300
    assert len({name for name, _, _ in SHAPES}) == len(SHAPES)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_an_odd_error_reaches_its_caller_and_is_counted_for_what_it_is(way, log):
    assert list(problems(way, make_breaker, counters, log)) == []


RULES = {
    "failure_rate_threshold": 1,
    "slow_call_duration": 5,
    "slow_call_rate_threshold": 1,
    "recovery_timeout": Backoff(60),
    "honor_retry_after": True,
    "abandoned_threshold": 1000,
}


@pytest.mark.parametrize("watched", [{}, {"stranded_after": 60, "cancel_stranded": True}], ids=str)
@pytest.mark.parametrize("way", [sync_function, async_function, call, reported, awaited_result])
def test_an_odd_error_is_counted_by_every_rule(way, watched, log):
    policy = BreakerPolicy(**RULES, **watched)
    assert list(problems(way, partial(make_breaker, policy=policy), counters, log)) == []


def probing():
    clock = FakeClock()
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)
    half_open(breaker, clock)
    return breaker


def count_of_probes(breaker):
    """The outcome of a probe; its place is free again."""
    snapshot = breaker.snapshot()
    assert snapshot.probes == 1
    failures_before = 1
    if snapshot.failures > failures_before:
        return {"failures": 1}
    assert breaker.state is HALF_OPEN
    assert admits(breaker)
    return {"answered": 1} if snapshot.answered else {"ignored": snapshot.ignored}


@pytest.mark.parametrize("way", [sync_function, async_function, block, own_preset_below])
def test_an_odd_error_of_a_probe_gives_its_place_back(way):
    found = []
    for name, make, outcome in SHAPES:
        breaker, error = probing(), make()
        if way in LOOPS and error_out_of(way, no_breaker, error) is not error:
            continue
        raised = error_out_of(way, breaker, error)
        if raised is not error or count_of_probes(breaker) != {NAMES[outcome]: 1}:
            found.append(name)
    assert found == []


def with_default(error):
    return classify_error(error)


@pytest.mark.parametrize("classifier", [failures(ZeroDivisionError), with_default])
def test_an_odd_error_is_counted_by_a_classifier_too(classifier, log):
    def breaker_of():
        return make_breaker(classifier=classifier)

    assert list(problems(sync_function, breaker_of, counters, log)) == []


def test_an_odd_error_is_counted_by_the_decorator(log):
    def through_decorator(breaker, error):
        @region_breaker(region_from="region", registry=breaker.registry)
        def send(region):
            raise error

        send("eu-west-1")

    class Registry:
        """A breaker whose registry the decorator can use."""

        def __init__(self):
            self.registry = CircuitBreakerRegistry(clock=FakeClock())

        def snapshot(self):
            return self.registry.get("eu-west-1").snapshot()

    assert list(problems(through_decorator, Registry, counters, log)) == []


def test_a_hundred_odd_errors_are_hinted_at_without_harm():
    for name, make, _ in SHAPES:
        if "meta" not in name and "called" not in name and "module" not in name:
            continue  # a hint is about the type
        breaker, error = make_breaker(classifier=lambda _: Outcome.IGNORED), make()
        for _ in range(100):
            assert error_out_of(block, breaker, error) is error
        assert counters(breaker) == {"ignored": 100}


# Errors that end a call without being an Exception


@pytest.mark.parametrize("name", ["__class__", "__cause__", "status", "args", "__dict__"])
@pytest.mark.parametrize("way", [sync_function, async_function, block])
def test_an_odd_ending_reaches_its_caller(name, way):
    breaker, error = make_breaker(), made(Unrelated, **{name: property(raising(Unrelated))})
    for _ in range(100):
        assert error_out_of(way, breaker, error) is error
    assert counters(breaker) == {"ignored": 100}


def test_an_ending_of_an_odd_type_reaches_its_caller():
    kind = metaclass(__hash__=None, __eq__=raising(Unrelated))("Odd", (Unrelated,), {})
    breaker = make_breaker()
    for _ in range(100):
        error = kind()
        assert error_out_of(block, breaker, error) is error
    assert counters(breaker) == {"ignored": 100}


# Types that count


def test_a_type_that_counts_is_found_whatever_its_class_says():
    odd = metaclass(__instancecheck__=raising(ValueError))
    kind = odd("Odd", (Exception,), {})
    breaker = make_breaker(classifier=failures(kind))
    error = kind()
    assert error_out_of(block, breaker, error) is error
    assert counters(breaker) == {"failures": 1}
    other = ValueError()
    assert error_out_of(block, breaker, other) is other
    assert counters(breaker) == {"failures": 1, "ignored": 1}


# Keys of attributes


class OddKey:
    """Equal to nothing, and in the way of a name."""

    def __init__(self, name):
        self._hash = hash(name)

    def __hash__(self):
        return self._hash

    __eq__ = raising(ValueError)


@pytest.mark.parametrize(("key", "outcome"), [("code", "failures"), ("status", "ignored")])
def test_a_key_that_is_not_a_name_may_hide_a_status_but_no_error(key, outcome):
    breaker, error = make_breaker(), Exception()
    vars(error)[OddKey(key)] = 1
    vars(error).setdefault("other", 1)
    if key != "status":
        error.status = 503
    assert error_out_of(block, breaker, error) is error
    assert counters(breaker) == {outcome: 1}


# A stack that is nearly used up


def test_where_the_stack_ends_nothing_but_its_end_replaces_an_error():
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len_of_stack() + 200)
    try:
        outcomes = {outcome_at(depth) for depth in range(100, 190)}
    finally:
        sys.setrecursionlimit(limit)
    assert "failures" in outcomes


def outcome_at(depth):
    breaker = make_breaker(classifier=classify_error)
    error = TimeoutError()
    error.__cause__ = ValueError()
    has_run = []

    def send():
        has_run.append(True)
        raise error

    def dive(left):
        if left:
            dive(left - 1)
        with breaker.acquire():
            send()

    raised = error_out_of(lambda *_: dive(depth), breaker, error)
    if not has_run:
        return "no stack for the call"
    assert raised is error or isinstance(raised, RecursionError)
    return "failures" if counters(breaker).get("failures") else "no stack to count it"


def len_of_stack():
    frame, depth = sys._getframe(), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


# Results


ODD_RESULTS = {
    "nothing works": OddObject,
    "unhashable class": metaclass(__hash__=None)("Unhashable", (), {}),
    "class refuses": metaclass(__hash__=raising(Unrelated))("Refuses", (), {}),
    "class hides": metaclass(__getattr__=raising(Unrelated))("Hides", (), {}),
}
CLASSIFIERS = {
    "none": (None, "successes"),
    "fails": (lambda _: FAILURE, "failures"),
    "raises": (raising(ValueError), "ignored"),
    "by status": (classify_status, "successes"),
}


@pytest.mark.parametrize("result", ODD_RESULTS)
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_an_odd_result_is_returned_and_counted(result, classifier):
    asked, name = CLASSIFIERS[classifier]
    made_result = ODD_RESULTS[result]()
    breaker = make_breaker(result_classifier=asked)

    @breaker
    def send():
        return made_result

    @breaker
    async def send_async():
        return made_result

    for _ in range(2):
        assert send() is made_result
        assert run(send_async()) is made_result
    assert breaker.acquire().returned_by_sync(made_result) is made_result
    assert counters(breaker) == {name: 5}


@pytest.mark.parametrize("result", ODD_RESULTS)
def test_an_odd_result_of_a_probe_closes_the_circuit(result):
    breaker, made_result = probing(), ODD_RESULTS[result]()

    @breaker
    def send():
        return made_result

    for _ in range(3):
        assert send() is made_result
    assert breaker.state is CLOSED


@pytest.mark.parametrize("result", ODD_RESULTS)
def test_a_classifier_that_returns_something_odd_is_logged_once(result, log):
    breaker = make_breaker(classifier=lambda _: ODD_RESULTS[result]())
    error = ValueError()
    assert error_out_of(block, breaker, error) is error
    assert counters(breaker) == {"ignored": 1}
    assert len(log) == 1


@pytest.mark.parametrize("kind", [ValueError, Unrelated, asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize("name", ["__class__", "__traceback__", "args"])
def test_a_classifier_that_raises_something_odd_is_logged_once(kind, name, log):
    def classifier(_):
        raise made(Unrelated, **{name: property(raising(kind))})

    breaker = make_breaker(classifier=classifier)
    error = ValueError()
    assert error_out_of(block, breaker, error) is error
    assert counters(breaker) == {"ignored": 1}
    assert len(log) == 1


# Exits that a signal asks for


class WatchedError(Exception):
    """While somebody looks at it, a signal comes."""

    @property
    def status(self):
        signal.raise_signal(signal.SIGUSR1)
        return 503


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_the_exit_that_a_signal_asks_for_is_not_lost(kind):
    def handler(_signal, _frame):
        raise kind

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        breaker = make_breaker()
        raised = error_out_of(block, breaker, WatchedError())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert type(raised) is kind
    assert counters(breaker) == {"ignored": 1}


def test_ctrl_c_is_not_lost():
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        breaker = make_breaker()
        raised = error_out_of(block, breaker, WatchedError())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert type(raised) is KeyboardInterrupt
    assert counters(breaker) == {"ignored": 1}


def throw_into_new_generator():
    (number for number in range(2)).throw(KeyboardInterrupt())


def throw_into_started_generator():
    numbers = (number for number in range(2))
    next(numbers)
    numbers.throw(KeyboardInterrupt())


def throw_into_inner_generator():
    def outer():
        yield from (number for number in range(2))

    numbers = outer()
    next(numbers)
    numbers.throw(KeyboardInterrupt())


def throw_into_coroutine():
    async def nothing():
        pass

    nothing().throw(KeyboardInterrupt())


@pytest.mark.parametrize(
    "throw",
    [
        throw_into_new_generator,
        throw_into_started_generator,
        throw_into_inner_generator,
        throw_into_coroutine,
    ],
)
def test_an_interrupt_that_is_thrown_into_a_generator_is_no_ctrl_c(throw):
    class ThrowingError(Exception):
        @property
        def status(self):
            throw()

    breaker, error = make_breaker(), ThrowingError()
    assert error_out_of(block, breaker, error) is error
    assert counters(breaker) == {"ignored": 1}


# Nothing left to look with


def test_where_no_memory_is_left_to_look_the_error_comes_out_and_one_line_is_logged(
    monkeypatch, log
):
    monkeypatch.setattr("resilience.judge.examine", raising(MemoryError))
    breaker, error = make_breaker(), ValueError()
    assert error_out_of(block, breaker, error) is error
    assert counters(breaker) == {"ignored": 1}
    assert len(log) == 1


def test_where_no_memory_is_left_for_a_hint_there_is_none(monkeypatch, log):
    monkeypatch.setattr("resilience.judge.examine", raising(MemoryError))
    breaker, error = make_breaker(classifier=lambda _: Outcome.IGNORED), ValueError()
    assert error_out_of(block, breaker, error) is error
    assert log == []


def test_where_no_memory_is_left_to_describe_an_error_its_type_is_the_reason(monkeypatch):
    monkeypatch.setattr("resilience.classify.rules.examine", raising(MemoryError))
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1))
    breaker.acquire().fail(ValueError())
    assert breaker.snapshot().reason == "ValueError"


def test_an_attempt_that_is_no_real_future_says_nothing():
    class NoFuture(Future):
        def __init__(self):
            pass

    error = TimeoutError()
    error.last_attempt = NoFuture()
    assert classify_error(error) is FAILURE


def test_a_type_without_a_module_says_nothing_else():
    made_here = {}
    exec("kind = type('Nowhere', (TimeoutError,), {})", made_here)  # without a `__name__`
    assert classify_error(made_here["kind"]()) is FAILURE


def test_a_result_has_nothing_that_the_interpreter_keeps_of_errors():
    assert not is_defined_by_python(OddObject, "__cause__")


# What a classifier of the user's own meets


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_classifier_that_reads_an_odd_error_replaces_it_by_no_exit(kind, log):
    def classifier(error):
        return FAILURE if error.status == 503 else Outcome.IGNORED

    breaker = make_breaker(classifier=classifier)
    error = made(status=property(raising(kind)))
    assert error_out_of(block, breaker, error) is error
    assert counters(breaker) == {"ignored": 1}
    assert len(log) == 1


@pytest.mark.parametrize("kind", [SystemExit, Unrelated])
def test_a_hint_about_types_that_cannot_be_hashed_replaces_no_error(kind):
    breaker = make_breaker()
    odd = made(Exception, metaclass(__hash__=raising(kind)))
    for _ in range(99):
        assert error_out_of(block, breaker, odd) is odd
    error = Exception("no rule knows it")
    assert error_out_of(block, breaker, error) is error
    assert counters(breaker) == {"ignored": 100}


def test_a_type_that_compares_as_it_likes_can_be_counted():
    odd = made(Exception, metaclass(__eq__=raising(SystemExit), __hash__=type.__hash__))
    assert failures(type(odd))(odd) is FAILURE
