"""Many callers at once: tasks, trio, threads, event loops, forks; and what 10,000 calls leave."""

import asyncio
import contextlib
import contextvars
import gc
import os
import sys
import threading
import tracemalloc

import pytest
import trio
import trio.testing

from resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerRegistry,
    CircuitState,
)
from resilience.testing import FakeClock
from tests.support.forks import forking, in_child

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
NEVER_TRIPS = BreakerPolicy(failure_threshold=10**9)


class ServerError(Exception):
    def __init__(self, status=503):
        super().__init__(status)
        self.status = status


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("eu-west-1", clock=clock)


@pytest.fixture
def nervous_threads():
    """Make the interpreter change threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def trip(breaker):
    for _ in range(breaker.policy.failure_threshold):
        breaker.acquire().fail()


def close(breaker):
    for _ in range(breaker.policy.success_threshold):
        breaker.acquire().succeed()


def record(breaker):
    events = []
    breaker.listen(events.append)
    return events


def moves(events):
    return [(event.old, event.new) for event in events]


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


# Tasks


async def test_of_a_hundred_tasks_at_the_half_open_instant_one_reaches_the_function(breaker, clock):
    trip(breaker)
    clock.advance(60)
    reached, answered = [], asyncio.Event()

    async def send(number):
        reached.append(number)
        await answered.wait()

    tasks = [asyncio.create_task(breaker.call(send, number)) for number in range(100)]
    await asyncio.sleep(0)
    assert reached == [0]
    answered.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] is None
    assert sum(isinstance(result, CircuitBreakerOpenError) for result in results) == 99
    assert reached == [0]
    assert breaker.snapshot().probes == 1


async def test_fifty_calls_in_flight_that_all_fail_are_one_event(breaker):
    events, down = record(breaker), asyncio.Event()

    async def send():
        await down.wait()
        raise ServerError

    tasks = [asyncio.create_task(breaker.call(send)) for _ in range(50)]
    await asyncio.sleep(0)
    down.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, ServerError) for result in results)
    assert moves(events) == [(CLOSED, OPEN)]
    assert (breaker.snapshot().failures, breaker.snapshot().trips) == (10, 1)


async def test_tasks_that_each_hold_a_permit_by_hand_are_kept_apart(breaker):
    async def work(number):
        with breaker.acquire() as permit:
            await asyncio.sleep(0)
            if number % 2:
                permit.fail()

    await asyncio.gather(*(work(number) for number in range(8)))
    snapshot = breaker.snapshot()
    assert (snapshot.successes, snapshot.failures) == (4, 4)


# Trio


def test_of_a_hundred_trio_tasks_at_the_half_open_instant_one_reaches_the_function(breaker, clock):
    trip(breaker)
    clock.advance(60)
    reached, rejected = [], []

    async def main():
        answered = trio.Event()

        async def send():
            reached.append(True)
            await answered.wait()

        async def call():
            try:
                await breaker.call(send)
            except CircuitBreakerOpenError:
                rejected.append(True)

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            answered.set()

    trio.run(main)
    assert (len(reached), len(rejected)) == (1, 99)


def test_fifty_trio_calls_in_flight_that_all_fail_are_one_event(breaker):
    events, raised = record(breaker), []

    async def main():
        down = trio.Event()

        @breaker
        async def send():
            await down.wait()
            raise ServerError

        async def call():
            try:
                await send()
            except ServerError:
                raised.append(True)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            down.set()

    trio.run(main)
    assert len(raised) == 50
    assert moves(events) == [(CLOSED, OPEN)]


def test_a_probe_cancelled_by_trio_gives_its_place_back(breaker, clock):
    trip(breaker)
    clock.advance(60)

    async def main():
        with trio.move_on_after(0):
            await breaker.call(trio.sleep_forever)
        for _ in range(3):
            await breaker.call(trio.lowlevel.checkpoint)

    trio.run(main)
    assert breaker.state is CLOSED
    assert breaker.snapshot().ignored == 1


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
            error = (None, None, ServerError(), ServerError(404))[number % 4]
            with contextlib.suppress(ServerError):
                send(error)
            breaker.acquire().succeed()

    run_threads(*[work] * 8)
    snapshot = breaker.snapshot()
    counts = (snapshot.successes, snapshot.failures, snapshot.ignored, snapshot.rejected)
    assert counts == (12_000, 2000, 2000, 0)


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
def test_permits_that_eight_threads_settle_at_once_count_once(clock, streak):
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
def test_two_event_loops_at_once_share_one_breaker_exactly(clock):
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


# Forks


def live_a_whole_life(breaker, clock):
    """Drive the breaker through everything a process does with it, from any state."""
    breaker.reset()
    events = record(breaker)
    trip(breaker)
    with pytest.raises(CircuitBreakerOpenError):
        breaker.acquire()

    async def wait():
        task = asyncio.create_task(breaker.wait_until_ready())
        await asyncio.sleep(0)
        clock.advance(breaker.policy.recovery_timeout)
        assert await task is True

    asyncio.run(wait())
    close(breaker)
    breaker.force_open("in the child")
    breaker.reset()
    assert moves(events) == [
        (CLOSED, OPEN),
        (OPEN, HALF_OPEN),
        (HALF_OPEN, CLOSED),
        (CLOSED, OPEN),
        (OPEN, CLOSED),
    ]
    done = []
    thread = threading.Thread(target=lambda: done.append(breaker.acquire().succeed()))
    thread.start()
    thread.join()
    assert done == [None]


@forking
def test_a_child_opens_recovers_and_waits_by_itself(breaker, clock):
    trip(breaker)
    in_child(lambda: live_a_whole_life(breaker, clock))
    assert breaker.state is OPEN
    assert breaker.snapshot().trips == 1
    clock.advance(60)
    close(breaker)
    assert breaker.state is CLOSED


@forking
def test_a_child_inherits_what_the_parent_knew(breaker, clock):
    trip(breaker)
    clock.advance(20)

    def look():
        assert breaker.retry_after == 40.0
        with pytest.raises(CircuitBreakerOpenError):
            breaker.acquire()

    in_child(look)
    assert breaker.snapshot().rejected == 0


@forking
def test_a_probe_out_at_the_fork_belongs_to_both(breaker, clock):
    trip(breaker)
    clock.advance(60)
    probe = breaker.acquire()

    def finish():
        probe.succeed()
        breaker.acquire().succeed()
        breaker.acquire().succeed()
        assert breaker.state is CLOSED

    in_child(finish)
    assert breaker.state is HALF_OPEN
    probe.fail()
    assert breaker.state is OPEN


def is_ours(thing):
    where = type(thing).__module__
    return where.partition(".")[0] == "resilience" and "testing" not in where


def locks_inside(thing):
    """Find the locks that a registry or a module of the package reaches through what is ours."""
    kinds = (type(threading.Lock()), type(threading.RLock()), threading.Condition)
    modules = [
        vars(module).values() for name, module in sys.modules.items() if "resilience" in name
    ]
    found, seen, rest = {}, set(), [thing, *(value for values in modules for value in values)]
    while rest:
        thing = rest.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, kinds):
            found[id(thing)] = thing
        elif is_ours(thing) or type(thing) in (dict, list, tuple, set):
            rest.extend(gc.get_referents(thing))
    return list(found.values())


@forking
def test_a_lock_held_by_another_thread_at_the_fork_locks_no_child(clock):
    registry = CircuitBreakerRegistry(clock=clock)
    breaker = registry.get("eu-west-1")
    locks = locks_inside(registry)
    assert locks, "nothing guards it, or this test looks in the wrong place"
    held, release = threading.Event(), threading.Event()

    def hold():
        for lock in locks:
            lock.acquire()
        held.set()
        release.wait(0.5)
        for lock in locks:
            lock.release()

    def live():
        live_a_whole_life(breaker, clock)
        live_a_whole_life(registry.get("made-in-the-child"), clock)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    in_child(live)
    release.set()
    thread.join()
    live()


@forking
@pytest.mark.usefixtures("nervous_threads")
def test_forks_amid_busy_threads_lock_no_child(clock):
    registry = CircuitBreakerRegistry(clock=clock)
    breaker = registry.get("eu-west-1")
    stop = threading.Event()

    def hammer():
        number = 0
        while not stop.is_set():
            number += 1
            breaker.acquire().fail() if breaker.state is CLOSED else breaker.reset()
            breaker.snapshot()
            registry.get(f"region-{number % 50}")

    def busy():
        while not stop.is_set():
            try:
                hammer()
            except CircuitBreakerOpenError:
                continue

    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            in_child(lambda: live_a_whole_life(breaker, clock))
            in_child(lambda: registry.get("made-in-the-child").acquire().succeed())
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@forking
def test_a_delivery_of_another_thread_at_the_fork_stops_no_delivery_in_the_child(breaker):
    parent, inside, go_on, heard = os.getpid(), threading.Event(), threading.Event(), []

    def listener(event):
        heard.append((os.getpid(), event.new))
        if os.getpid() == parent:
            inside.set()
            go_on.wait(90)

    breaker.listen(listener)
    thread = threading.Thread(target=breaker.force_open, args=("maintenance",))
    thread.start()
    inside.wait()

    def child():
        breaker.reset()
        assert heard[-1] == (os.getpid(), CLOSED)
        trip(breaker)
        assert heard[-1] == (os.getpid(), OPEN)

    try:
        in_child(child)
    finally:
        go_on.set()
        thread.join()
    breaker.reset()
    assert [new for _, new in heard] == [OPEN, CLOSED]


@forking
def test_waiters_of_the_parent_are_neither_woken_nor_lost_by_the_child(breaker, clock):
    trip(breaker)
    ready, results = threading.Event(), []

    async def wait():
        asyncio.get_running_loop().call_soon(ready.set)
        results.append(await breaker.wait_until_ready())

    thread = threading.Thread(target=asyncio.run, args=(wait(),))
    thread.start()
    ready.wait()
    in_child(lambda: live_a_whole_life(breaker, clock))
    assert results == []
    assert thread.is_alive()
    breaker.reset()
    thread.join()
    assert results == [True]


# What stays behind: nothing


MAKE_ERROR = {
    "success": None,
    "failure": ServerError,
    "ignored": lambda: ServerError(404),
    "rejected": None,
}


async def send(make_error):
    if make_error:
        raise make_error()


def send_plain(make_error):
    if make_error:
        raise make_error()


def by_call(breaker):
    return lambda make_error: breaker.call(send, make_error)


def by_decorator(breaker):
    return breaker(send)


def by_plain_decorator(breaker):
    protected = breaker(send_plain)

    async def call(make_error):
        protected(make_error)

    return call


def by_permit(breaker):
    async def call(make_error):
        with breaker.acquire():
            await send(make_error)

    return call


WAYS = [by_call, by_decorator, by_plain_decorator, by_permit]


def breaker_for(kind):
    breaker = CircuitBreaker("eu-west-1", NEVER_TRIPS, clock=FakeClock())
    if kind == "rejected":
        breaker.force_open("maintenance")
    return breaker


def depth_of(traceback_):
    depth = 0
    while traceback_:
        depth, traceback_ = depth + 1, traceback_.tb_next
    return depth


async def make_calls(call, kind, count):
    """Make the calls, and give the traceback depths and contexts of what they raised."""
    seen, make_error = set(), MAKE_ERROR[kind]
    for _ in range(count):
        try:
            await call(make_error)
        except (ServerError, CircuitBreakerOpenError) as error:
            seen.add((depth_of(error.__traceback__), error.__context__))
    return seen


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", MAKE_ERROR)
async def test_ten_thousand_calls_leave_no_task_no_timer_no_cycle_behind(kind, way):
    breaker = breaker_for(kind)
    call = way(breaker)
    await make_calls(call, kind, 150)
    tasks, timers = len(asyncio.all_tasks()), len(asyncio.get_running_loop()._scheduled)
    gc.collect()
    gc.disable()
    try:
        seen = await make_calls(call, kind, 10_000)
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert len(asyncio.all_tasks()) == tasks
    assert len(asyncio.get_running_loop()._scheduled) == timers
    assert len(seen) == (0 if kind == "success" else 1)
    assert all(context is None for _, context in seen)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", MAKE_ERROR)
async def test_ten_thousand_calls_leave_no_memory_behind(kind, way):
    breaker = breaker_for(kind)
    call = way(breaker)
    await make_calls(call, kind, 500)
    gc.collect()
    tracemalloc.start()
    try:
        await make_calls(call, kind, 500)
        before, _ = tracemalloc.get_traced_memory()
        await make_calls(call, kind, 10_000)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 10_000
    finally:
        tracemalloc.stop()
    snapshot = breaker.snapshot()
    counts = (snapshot.successes, snapshot.failures, snapshot.ignored, snapshot.rejected)
    assert counts == tuple(11_000 * (name == kind) for name in MAKE_ERROR)


async def test_ten_thousand_cancelled_calls_leave_nothing_behind(clock):
    breaker = CircuitBreaker("eu-west-1", clock=clock)

    async def cancelled():
        raise asyncio.CancelledError

    async def work(count):
        for _ in range(count):
            with contextlib.suppress(asyncio.CancelledError):
                await breaker.call(cancelled)

    await work(150)
    gc.collect()
    gc.disable()
    try:
        await work(10_000)
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert breaker.snapshot().ignored == 10_150


def test_ten_thousand_outages_leave_nothing_behind(log):
    clock = FakeClock()
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(failure_threshold=1), clock=clock)

    def outages(count):
        for _ in range(count):
            breaker.acquire().fail()
            clock.advance(60)
            breaker.acquire()  # a probe that hangs
            clock.advance(60)
            close(breaker)
            log.clear()

    outages(50)
    gc.collect()
    tracemalloc.start()
    try:
        outages(50)
        before, _ = tracemalloc.get_traced_memory()
        outages(1000)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 10_000
    finally:
        tracemalloc.stop()
    assert breaker.snapshot().trips == 1100


def probing(breaker):
    with breaker.acquire():
        yield


async def probing_async(breaker):
    with breaker.acquire():
        yield


def test_a_generator_that_is_collected_gives_its_place_back(breaker, clock):
    trip(breaker)
    clock.advance(60)
    generator = probing(breaker)
    next(generator)
    with pytest.raises(CircuitBreakerOpenError):
        contextvars.Context().run(breaker.acquire)
    del generator
    gc.collect()
    close(breaker)
    assert breaker.state is CLOSED


def test_a_generator_in_a_cycle_that_is_collected_gives_its_place_back(breaker, clock):
    trip(breaker)
    clock.advance(60)
    box = [probing(breaker)]
    next(box[0])
    box.append(box)
    del box
    gc.collect()
    close(breaker)
    assert breaker.state is CLOSED


async def test_an_async_generator_that_is_collected_gives_its_place_back(breaker, clock):
    trip(breaker)
    clock.advance(60)
    generator = probing_async(breaker)
    await anext(generator)
    del generator
    gc.collect()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    close(breaker)
    assert breaker.state is CLOSED


def test_a_permit_collected_amid_the_breakers_own_work_locks_nothing(clock):
    """The collector may run a generator's last lines at any allocation, under any lock."""
    breaker = CircuitBreaker("eu-west-1", NEVER_TRIPS, clock=clock)
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(300):
            box = [probing(breaker)]
            next(box[0])
            box.append(box)
            del box
            breaker.acquire().fail()
            breaker.snapshot()
            breaker.force_open("maintenance")
            breaker.reset()
    finally:
        gc.set_threshold(*thresholds)
    assert breaker.state is CLOSED
