"""Many threads, and several event loops in them."""

import asyncio
import contextlib
import threading

import pytest

from resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerOpenError
from tests.support.callers import NEVER_TRIPS, locks_inside, send
from tests.support.driving import CLOSED, OPEN, ServerError, close, moves, record, trip


def run_threads(*targets):
    """Run each target in a thread of its own and raise what one of them raised."""
    raised = []

    def guarded(target):
        try:
            target()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


# Threads


@pytest.mark.usefixtures("nervous_threads")
def test_of_eight_threads_at_the_half_open_instant_one_reaches_the_function(clock):
    for _ in range(50):
        breaker = CircuitBreaker("eu-west-1", clock=clock)
        trip(breaker)
        clock.advance(60)
        barrier, reached, rejected = threading.Barrier(8), [], threading.Semaphore(0)

        @breaker
        def send(reached=reached, rejected=rejected):
            reached.append(True)
            for _ in range(7):
                rejected.acquire()

        def work(send=send, barrier=barrier, rejected=rejected):
            barrier.wait()
            try:
                send()
            except CircuitBreakerOpenError:
                rejected.release()

        run_threads(*[work] * 8)
        snapshot = breaker.snapshot()
        assert (len(reached), snapshot.rejected, snapshot.probes) == (1, 7, 1)


@pytest.mark.usefixtures("nervous_threads")
def test_eight_threads_whose_calls_all_fail_are_one_event(clock):
    for _ in range(50):
        breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=40), clock=clock)
        events, barrier = record(breaker), threading.Barrier(8)

        def work(breaker=breaker, barrier=barrier):
            permits = [breaker.acquire() for _ in range(10)]
            barrier.wait()
            for permit in permits:
                permit.fail()

        run_threads(*[work] * 8)
        assert moves(events) == [(CLOSED, OPEN)]
        assert (breaker.snapshot().failures, breaker.snapshot().trips) == (40, 1)


@pytest.mark.usefixtures("nervous_threads")
def test_the_counters_of_eight_threads_are_exact(clock):
    breaker = CircuitBreaker("eu-west-1", NEVER_TRIPS, clock=clock)

    @breaker
    def send(error):
        if error:
            raise error

    def work():
        for number in range(1000):
            error = (None, ServerError(), ServerError(404), ServerError(407))[number % 4]
            with contextlib.suppress(ServerError):
                send(error)
            breaker.acquire().succeed()

    run_threads(*[work] * 8)
    snapshot = breaker.snapshot()
    counts = (snapshot.successes, snapshot.failures, snapshot.answered, snapshot.ignored)
    assert (*counts, snapshot.rejected) == (10_000, 2000, 2000, 2000, 0)


@pytest.mark.usefixtures("nervous_threads")
def test_successes_of_eight_threads_without_a_streak_are_counted_exactly(breaker):
    send = breaker(lambda: None)

    def work():
        for _ in range(5000):
            send()

    run_threads(*[work] * 8)
    assert breaker.snapshot().successes == 40_000


@pytest.mark.usefixtures("nervous_threads")
def test_the_rejections_of_eight_threads_are_counted_exactly(breaker):
    breaker.force_open("maintenance")
    rejected = []

    def work():
        for _ in range(1000):
            try:
                breaker.acquire()
            except CircuitBreakerOpenError:
                rejected.append(True)

    run_threads(*[work] * 8)
    assert len(rejected) == breaker.snapshot().rejected == 8000


@pytest.mark.usefixtures("nervous_threads")
def test_no_success_of_another_thread_hides_inside_a_streak(clock):
    """A success ends the streak it comes after; ten failures that follow one by one still trip."""
    for _ in range(50):
        breaker = CircuitBreaker("eu-west-1", clock=clock)
        succeed = breaker(lambda: None)
        stop = threading.Event()

        def successes(succeed=succeed, stop=stop):
            while not stop.is_set():
                try:
                    succeed()
                except CircuitBreakerOpenError:
                    return

        def failing(breaker=breaker, stop=stop):
            for _ in range(200):
                try:
                    breaker.acquire().fail()
                except CircuitBreakerOpenError:
                    break
            stop.set()

        run_threads(successes, successes, failing)
        while breaker.state is CLOSED:
            breaker.acquire().fail()
        assert breaker.state is OPEN
        assert breaker.snapshot().trips == 1


@pytest.mark.usefixtures("nervous_threads")
def test_threads_that_trip_probe_force_and_reset_at_will_leave_a_sound_circuit(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=2), clock=clock)
    events = record(breaker)

    def call():
        for number in range(500):
            try:
                permit = breaker.acquire()
            except CircuitBreakerOpenError:
                continue
            (permit.succeed, permit.fail, permit.ignore)[number % 3]()

    def operate():
        for number in range(200):
            clock.advance(20)
            if number % 20 == 0:
                breaker.force_open(str(number))
            if number % 20 == 10:
                breaker.reset()

    run_threads(call, call, call, call, call, call, operate, operate)
    assert [event.old for event in events[1:]] == [event.new for event in events[:-1]]
    assert events[-1].new in (breaker.state, OPEN)
    breaker.reset()
    trip(breaker)
    clock.advance(60)
    close(breaker)
    assert breaker.state is CLOSED


@pytest.mark.usefixtures("nervous_threads")
@pytest.mark.parametrize("streak", [0, 1])
def test_permits_that_eight_threads_settle_at_the_same_time_count_once(clock, streak):
    breaker = CircuitBreaker("eu-west-1", NEVER_TRIPS, clock=clock)
    for _ in range(streak):
        breaker.acquire().fail()
    permits = [breaker.acquire() for _ in range(2000)]
    barrier = threading.Barrier(8)

    def settle(report):
        barrier.wait()
        for permit in permits:
            getattr(permit, report)()

    reports = ["succeed", "fail", "ignore", "succeed"] * 2
    run_threads(*[lambda report=report: settle(report) for report in reports])
    snapshot = breaker.snapshot()
    assert snapshot.successes + snapshot.failures + snapshot.ignored == 2000 + streak


def by_drive(breaker):
    def call():
        coroutine = breaker.call(send, None)
        with contextlib.suppress(StopIteration):  # how a coroutine ends that waited for nothing
            coroutine.send(None)

    return call


def by_driven_decorator(breaker):
    protected = breaker(send)

    def call():
        with contextlib.suppress(StopIteration):
            protected(None).send(None)

    return call


def by_plain_function(breaker):
    return breaker(lambda: None)


@pytest.mark.parametrize("way", [by_plain_function, by_driven_decorator, by_drive])
def test_a_success_in_a_quiet_closed_circuit_takes_no_lock(breaker, way):
    call = way(breaker)
    held, release, done = threading.Event(), threading.Event(), threading.Event()
    locks = locks_inside(breaker)
    assert locks, "nothing guards it, or this test looks in the wrong place"

    def hold():
        for lock in locks:
            lock.acquire()
        held.set()
        release.wait()
        for lock in locks:
            lock.release()

    def work():
        for _ in range(3):
            call()
        done.set()

    holder, caller = threading.Thread(target=hold), threading.Thread(target=work)
    holder.start()
    held.wait()
    try:
        caller.start()
        assert done.wait(10), "the call waits for a lock"
    finally:
        release.set()
        holder.join()
        caller.join()
    assert breaker.snapshot().successes == 3


# Event loops


@pytest.mark.usefixtures("nervous_threads")
def test_two_event_loops_at_the_same_time_share_one_breaker_exactly(clock):
    breaker = CircuitBreaker("eu-west-1", NEVER_TRIPS, clock=clock)

    async def send(number):
        await asyncio.sleep(0)
        if number % 4 == 0:
            raise ServerError

    async def main():
        calls = (breaker.call(send, number) for number in range(2000))
        await asyncio.gather(*calls, return_exceptions=True)

    run_threads(lambda: asyncio.run(main()), lambda: asyncio.run(main()))
    assert (breaker.snapshot().successes, breaker.snapshot().failures) == (3000, 1000)


@pytest.mark.usefixtures("nervous_threads")
def test_of_two_event_loops_at_the_half_open_instant_one_call_reaches_the_function(breaker, clock):
    trip(breaker)
    clock.advance(60)
    barrier, rejected_here, reached = threading.Barrier(2), threading.Barrier(2), []

    async def main():
        answered = asyncio.Event()

        async def send():
            reached.append(True)
            await answered.wait()

        barrier.wait()
        tasks = [asyncio.create_task(breaker.call(send)) for _ in range(50)]
        await asyncio.sleep(0)
        rejected_here.wait()
        answered.set()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_threads(lambda: asyncio.run(main()), lambda: asyncio.run(main()))
    assert len(reached) == 1
    assert (breaker.snapshot().rejected, breaker.snapshot().probes) == (99, 1)
