"""`registry.record`: what is written, when, and what becomes of the file."""

import asyncio
import copy
import os
import pickle
import threading

import pytest

from resilience import Backoff, BreakerPolicy, CircuitBreakerRegistry, region_breaker
from resilience._text import display_name
from resilience.mode import Mode
from resilience.recording import read_recording
from resilience.recording.layout import Kind
from resilience.replay import compare, replay
from tests.support.driving import ServerError, close, rejection, trip
from tests.support.recorded_traffic import read_regions


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outcomes"


@pytest.fixture
def registry(clock):
    registry = CircuitBreakerRegistry(clock=clock)
    yield registry
    registry.clear()


def kinds(path, region="eu-west-1"):
    return [Kind(word & 15) for word in read_regions(path)[region].words]


def test_an_outcome_takes_8_bytes(registry, path, clock):
    recording = registry.record(path)
    breaker = registry.get("eu-west-1")
    breaker.acquire().succeed()
    recording.flush()
    before = path.stat().st_size
    for _ in range(1000):
        clock.advance(0.01)
        breaker.acquire().succeed()
    recording.flush()
    assert path.stat().st_size - before == 8000


def test_all_kinds_of_outcomes(registry, path):
    recording = registry.record(path)
    breaker = registry.get("eu-west-1")
    breaker.acquire().succeed()
    breaker.acquire().fail()
    breaker.acquire().answered()
    breaker.acquire().ignore()
    attempt = breaker.acquire()
    attempt.attempt_failed(TimeoutError())
    attempt.fail()
    unfinished = breaker.acquire()
    for _ in range(8):
        breaker.acquire().fail()
    rejection(breaker)
    rejection(breaker)
    recording.close()
    unfinished.ignore()
    assert kinds(path) == [
        Kind.SUCCESS,
        Kind.FAILURE,
        Kind.ANSWERED,
        Kind.IGNORED,
        Kind.ATTEMPT,
        Kind.FAILURE,  # the same as the attempt's, counted once
        *[Kind.FAILURE] * 8,
        Kind.REJECTED,
        Kind.REJECTED,
        Kind.UNFINISHED,
    ]


async def test_decorated_functions_with_and_without_permits(registry, path):
    @region_breaker(region_from="region", registry=registry)
    async def call(region, error=None):
        if error is not None:
            raise error

    await call("eu-west-1")
    recording = registry.record(path)
    await call("eu-west-1")
    with pytest.raises(TimeoutError):
        await call("eu-west-1", TimeoutError())
    await call("us-east-1")
    recording.close()
    await call("eu-west-1")
    assert kinds(path) == [Kind.SUCCESS, Kind.FAILURE]
    assert kinds(path, "us-east-1") == [Kind.SUCCESS]


def test_afterwards_calls_take_the_fast_path_again(registry, path):
    breaker = registry.get("eu-west-1")
    recording = registry.record(path)
    assert breaker.closed is None
    recording.close()
    assert breaker.closed is not None
    assert not recording.is_open


def test_a_call_that_is_running_when_the_recording_begins(registry, path):
    breaker = registry.get("eu-west-1")
    running = breaker.acquire()
    recording = registry.record(path)
    running.succeed()
    recording.close()
    assert kinds(path) == []


def test_abandoned_calls(clock, path):
    registry = CircuitBreakerRegistry(BreakerPolicy(abandoned_threshold=2), clock=clock)
    recording = registry.record(path)
    with pytest.raises(asyncio.CancelledError), registry.get("eu-west-1").acquire():
        raise asyncio.CancelledError
    recording.close()
    assert kinds(path) == [Kind.ABANDONED]


async def test_calls_that_are_stranded(path):
    registry = CircuitBreakerRegistry(BreakerPolicy(stranded_after=0.01, failure_threshold=1))
    opened = asyncio.Event()
    registry.listen(lambda _change: opened.set())
    recording = registry.record(path)
    task = asyncio.create_task(registry.get("eu-west-1").call(asyncio.Event().wait))
    await opened.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    recording.close()
    assert kinds(path) == [Kind.NOTE, Kind.IGNORED]
    [recorded] = read_recording(path).regions
    assert compare(recorded, {}).differences == 0
    assert len(recorded.changes) == 1
    assert replay(recorded, BreakerPolicy(stranded_after=0.001, failure_threshold=1)).transitions


def test_clear_ends_it(registry, path):
    recording = registry.record(path)
    registry.get("eu-west-1").acquire().succeed()
    registry.clear()
    assert not recording.is_open
    assert kinds(path) == [Kind.SUCCESS]
    registry.record(path).close()


def test_there_is_one_recording_at_a_time(registry, path):
    recording = registry.record(path)
    with pytest.raises(RuntimeError, match="records already"):
        registry.record(path)
    recording.close()
    recording.close()


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"path": 3}, TypeError, "path"),
        ({"limit": 0}, ValueError, "limit"),
        ({"limit": 1.5}, TypeError, "limit"),
        ({"on_outage": "print"}, TypeError, "on_outage"),
    ],
)
def test_wrong_arguments(registry, path, arguments, error, named):
    with pytest.raises(error, match=named):
        registry.record(**{"path": path, **arguments})
    registry.record(str(path)).close()


def test_a_file_that_is_not_a_recording_is_left_alone(registry, path):
    path.write_text("precious data")
    with pytest.raises(ValueError, match="not a recording"):
        registry.record(path)
    assert path.read_text() == "precious data"


def test_an_older_recording_is_kept(registry, path):
    path.touch()
    registry.record(path).close()
    first = registry.record(path)
    registry.get("eu-west-1").acquire().succeed()
    first.close()
    registry.record(path).close()
    assert kinds(f"{path}.1") == [Kind.SUCCESS]
    assert read_recording(path).count() == 0


def test_a_folder_that_is_not_there(registry, tmp_path):
    with pytest.raises(FileNotFoundError):
        registry.record(tmp_path / "missing" / "outcomes")
    registry.record(tmp_path / "outcomes").close()


def test_it_is_bounded(registry, path):
    recording = registry.record(path, limit=100)
    breaker = registry.get("eu-west-1")
    for _ in range(1000):
        breaker.acquire().succeed()
    recording.close()
    recorded = read_recording(path)
    assert 50 <= recorded.count() <= 100
    assert not recorded.is_complete
    assert path.stat().st_size + path.with_name("outcomes.1").stat().st_size < 2000
    path.with_name("outcomes.1").unlink()
    assert read_recording(path).count() <= 50


def test_the_next_file_cannot_be_made(registry, path, log):
    recording = registry.record(path, limit=4)
    breaker = registry.get("eu-west-1")
    breaker.acquire().succeed()
    path.write_text("somebody else's")
    for _ in range(3):
        breaker.acquire().succeed()
    assert not recording.is_open
    _wait_for(log, "stopped recording")
    recording.close()


def test_a_disk_that_is_full(registry, log, tmp_path, monkeypatch):
    recording = registry.record(tmp_path / "outcomes")
    breaker = registry.get("eu-west-1")
    breaker.acquire().succeed()

    def write(_file, _data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        recording.flush()
    breaker.acquire().succeed()
    assert not recording.is_open
    assert breaker.snapshot().successes == 2
    _wait_for(log, "No space left")
    recording.close()


def test_a_file_that_takes_only_parts(registry, path, monkeypatch):
    recording = registry.record(path)
    for _ in range(10):
        registry.get("eu-west-1").acquire().succeed()
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:7]))
        recording.flush()
    recording.close()
    assert kinds(path) == [Kind.SUCCESS] * 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process_does_not_write_into_the_file(registry, path, monkeypatch):
    recording = registry.record(path)
    registry.get("eu-west-1").acquire().succeed()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        recording.flush()
    assert not recording.is_open
    assert read_recording(path).count() == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process_does_not_begin_the_next_file(registry, path):
    recording = registry.record(path, limit=4)
    breaker = registry.get("eu-west-1")
    for _ in range(2):
        breaker.acquire().succeed()
    recording.flush()
    child = os.fork()
    if child == 0:
        for _ in range(10):
            breaker.acquire().succeed()
        os._exit(recording.is_open)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert not path.with_name("outcomes.1").exists()
    breaker.acquire().succeed()
    recording.close()
    assert read_recording(path).count() == 3


def test_regions_that_have_no_place(registry, path, log, monkeypatch):
    monkeypatch.setattr("resilience.recording.layout.MOST_REGIONS", 1)
    recording = registry.record(path)
    for region in ("eu-west-1", "us-east-1", "us-west-2"):
        registry.get(region).acquire().succeed()
    recording.close()
    monkeypatch.undo()
    assert list(read_regions(path)) == ["eu-west-1"]
    _wait_for(log, "does not record region us-east-1: 1 others are recorded")


def test_the_longest_name(registry, path):
    recording = registry.record(path)
    name = registry.get("x" * 5000).region
    registry.get(name).acquire().succeed()
    recording.close()
    assert list(read_regions(path)) == [name]


def test_changes_after_the_end_are_not_written(registry, path):
    recording = registry.record(path)
    trip(registry.get("eu-west-1"))
    stop = registry.listen(recording.note_change)
    recording.close()
    registry.get("eu-west-1").reset()
    stop()
    assert len(read_regions(path)["eu-west-1"].changes) == 1


def test_times_that_are_none(registry, path, clock):
    recording = registry.record(path)
    breaker = registry.get("eu-west-1")
    breaker.acquire().succeed()
    clock.advance(1e15)
    breaker.acquire().succeed()
    clock.advance(-1e15)
    clock.advance(-3)
    breaker.acquire().succeed()
    recording.close()
    assert kinds(path) == [Kind.SUCCESS, Kind.SUCCESS]


def test_a_clock_that_steps_back(registry, path, clock):
    recording = registry.record(path)
    breaker = registry.get("eu-west-1")
    for step in (0, 100, -50, 3600):
        clock.advance(step)
        breaker.acquire().succeed()
    recording.close()
    times = read_regions(path)["eu-west-1"].times
    assert [time - times[0] for time in times] == [0, 100_000_000, 50_000_000, 3_650_000_000]


def test_many_calls_in_flight_are_not_all_remembered(registry, path, monkeypatch):
    monkeypatch.setattr("resilience.recording.recorder._MOST_IN_FLIGHT", 2)
    recording = registry.record(path)
    permits = [registry.get("eu-west-1").acquire() for _ in range(3)]
    for permit in permits:
        permit.succeed()
    recording.close()
    assert kinds(path) == [Kind.SUCCESS] * 2


def test_threads(registry, path):
    recording = registry.record(path)
    breaker = registry.get("eu-west-1")

    def call():
        for _ in range(500):
            breaker.acquire().succeed()

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recording.close()
    assert kinds(path) == [Kind.SUCCESS] * 2000


def test_a_report_after_each_outage(registry, path, clock):
    reports = []
    recording = registry.record(path, on_outage=reports.append)
    breaker = registry.get("eu-west-1")
    for _ in range(2):
        trip(breaker)
        clock.advance(60)
        close(breaker)
    recording.close()
    assert len(reports) == 2
    assert all("Outage of region eu-west-1" in report for report in reports)


def test_a_report_may_end_the_recording(registry, path, clock):
    done = threading.Event()

    def end(_report):
        recording.close()
        done.set()

    recording = registry.record(path, on_outage=end)
    breaker = registry.get("eu-west-1")
    trip(breaker)
    clock.advance(60)
    close(breaker)
    assert done.wait(30)


def test_closing_by_hand_is_not_an_outage_without_an_opening(registry, path):
    reports = []
    recording = registry.record(path, on_outage=reports.append)
    breaker = registry.get("eu-west-1")
    breaker.force_open("maintenance")
    breaker.reset()
    recording.close()
    assert len(reports) == 1


def test_a_report_that_fails_is_logged(registry, path, log):
    def fail(_report):
        raise ValueError("secret")

    recording = registry.record(path, on_outage=fail)
    registry.get("eu-west-1").force_open("maintenance")
    registry.get("eu-west-1").reset()
    recording.close()
    [line] = [record["message"] for record in log if "on_outage" in record["message"]]
    assert "raised ValueError" in line
    assert "secret" not in line


def test_two_regions_that_look_alike(registry, path, clock):
    reports = []
    recording = registry.record(path, on_outage=reports.append)
    names = ["eu\n", "eu\\n"]
    for name in names:
        trip(registry.get(name))
        clock.advance(60)
        close(registry.get(name))
    recording.close()
    regions = [display_name(name) for name in names]
    assert list(read_regions(path)) == regions
    assert sorted(report.splitlines()[0] for report in reports) == sorted(
        f"Outage of region {region}" for region in regions
    )


def test_a_report_of_a_region_without_an_outage(registry, path):
    registry.get("eu-west-1").force_open("maintenance")
    reports = []
    recording = registry.record(path, on_outage=reports.append)
    registry.get("eu-west-1").reset()
    recording.close()
    assert reports == []


def test_a_breaker_that_was_evicted_and_is_still_held(clock, path):
    registry = CircuitBreakerRegistry(clock=clock, max_regions=1)
    recording = registry.record(path)
    held = registry.get("eu-west-1")
    held.acquire().succeed()
    registry.get("us-east-1")
    held.acquire().fail()
    assert "eu-west-1" in registry
    recording.close()
    assert kinds(path) == [Kind.SUCCESS, Kind.FAILURE]


def test_after_an_error_nothing_is_written_any_more(registry, path, log, monkeypatch):
    recording = registry.record(path, limit=4)
    breaker = registry.get("eu-west-1")
    breaker.acquire().succeed()
    breaker.acquire().succeed()

    def write(_file, _data):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        breaker.acquire().succeed()
    breaker.reset()
    breaker.acquire().succeed()
    assert not recording.is_open
    _wait_for(log, "Input/output error")
    recording.close()


def test_while_everything_is_switched_off_nothing_is_recorded(registry, path, monkeypatch):
    monkeypatch.setattr("resilience.recording.recorder.FORCED_MODE", Mode.OFF)
    recording = registry.record(path)
    registry.get("eu-west-1").acquire().succeed()
    recording.close()
    assert read_recording(path).regions == []


def test_a_failure_that_was_counted_with_its_attempt_is_one_request(clock, path):
    reports = []
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=2), clock=clock)
    recording = registry.record(path, on_outage=reports.append)
    breaker = registry.get("eu-west-1")
    call = breaker.acquire()
    call.attempt_failed(TimeoutError())
    call.fail()
    breaker.acquire().fail()
    clock.advance(60)
    close(breaker)
    recording.close()
    assert "Requests    2 since the last answer, of which 2 failed" in reports[0]
    [recorded] = read_recording(path).regions
    assert (replay(recorded).made, replay(recorded).failed) == (5, 2)


def test_settings_that_are_not_the_policy_are_not_written(registry, path):
    recording = registry.record(path)
    registry.get("eu-west-1")
    registry.configure(max_regions=5)
    registry.get("eu-west-1").count_stranded()
    recording.close()
    assert kinds(path) == []


def _wait_for(log, text):
    """Wait for a line that another thread logs."""
    deadline = threading.Event()
    for _ in range(3000):
        if any(text in record["message"] for record in log):
            return
        deadline.wait(0.01)
    raise AssertionError(f"{text!r} was not logged")


def test_a_recording_that_is_closed_twice_leaves_the_next_one_alone(path, clock):
    policy = BreakerPolicy(failure_threshold=1, recovery_timeout=Backoff(10, jitter=0.5))
    registry = CircuitBreakerRegistry(policy, clock=clock)
    breaker = registry.get("eu-west-1")
    first = registry.record(path)
    first.close()
    second = registry.record(path)
    first.close()
    for _ in range(5):
        breaker.acquire().fail()
        clock.advance(breaker.retry_after)
    second.close()
    assert compare(read_regions(path)["eu-west-1"], {}).differences == 0


def test_two_registries_do_not_record_to_the_same_path(registry, path, clock):
    others = CircuitBreakerRegistry(clock=clock)
    recording = registry.record(path)
    for same in (path, f"{path}.1", path.parent / "." / "outcomes"):
        with pytest.raises(RuntimeError, match="another recording writes there"):
            others.record(same)
    registry.get("eu-west-1").acquire().succeed()
    recording.close()
    assert kinds(path) == [Kind.SUCCESS]
    others.record(path).close()


def test_a_recording_that_cannot_begin_leaves_its_path_to_others(registry, path):
    path.write_text("precious data")
    with pytest.raises(ValueError, match="not a recording"):
        registry.record(path)
    path.unlink()
    registry.record(path).close()


def test_a_recording_that_has_failed_makes_way_for_another(registry, path, log, monkeypatch):
    failed = registry.record(path)
    registry.get("eu-west-1").acquire().succeed()

    def write(_file, _data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        failed.flush()
    _wait_for(log, "stopped recording")
    recording = registry.record(path)
    registry.get("eu-west-1").acquire().answered()
    failed.close()
    registry.get("eu-west-1").acquire().answered()
    recording.close()
    assert kinds(path) == [Kind.ANSWERED, Kind.ANSWERED]


def test_a_recording_is_copied_as_itself_and_not_pickled(registry, path):
    recording = registry.record(path)
    assert copy.copy(recording) is copy.deepcopy(recording) is recording
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(recording)
    recording.close()


def test_a_delay_without_end_can_be_read_again(path, clock):
    policy = BreakerPolicy(failure_threshold=1, recovery_timeout=Backoff(1), honor_retry_after=True)
    registry = CircuitBreakerRegistry(policy, clock=clock)
    recording = registry.record(path)
    registry.get("eu-west-1").acquire().fail(ServerError(headers={"Retry-After": "9" * 400}))
    recording.close()
    [recorded] = read_recording(path).regions
    assert compare(recorded, {}).differences == 0
    assert len(recorded.changes) == 1


def test_a_report_whose_thread_does_not_start_keeps_no_recording_from_ending(
    path, clock, monkeypatch
):
    registry = CircuitBreakerRegistry(BreakerPolicy(failure_threshold=1), clock=clock)
    recording = registry.record(path, on_outage=print)
    breaker = registry.get("eu-west-1")
    breaker.acquire().fail()

    def start(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        breaker.reset()
    recording.close()
    assert not recording.is_open


def test_a_recording_stays_where_it_is_when_the_working_directory_changes(
    registry, tmp_path, monkeypatch
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    recording = registry.record("outcomes", limit=2)
    monkeypatch.chdir(elsewhere)
    for _ in range(3):
        registry.get("eu-west-1").acquire().succeed()
    recording.close()
    assert kinds(tmp_path / "outcomes") == [Kind.SUCCESS, Kind.SUCCESS]
    assert list(elsewhere.iterdir()) == []
