"""A file is not trusted: whatever is wrong with it is an error of its own, and nothing else."""

import json
import random

import pytest

from resilience import BreakerPolicy, CircuitBreakerRegistry
from resilience._text import display_name
from resilience.recording import NotARecordingError, layout, read_recording
from resilience.recording.layout import Header, Kind
from resilience.replay import compare, incident_reports
from resilience.testing import FakeClock
from tests.support.recorded_traffic import Traffic

START = {"state": "CLOSED", "since": 0.0, "streak": 0, "last_activity": None}
REGION = {"region": "eu-west-1", "policy": {}, "start": START, "is_new": True}
HEADER = Header(recording=1, part=0, clock_to_time=0.0)


def word(number):
    return number.to_bytes(8, "little")


ANCHOR = word(layout.pack_time(Kind.ANCHOR, 0))
OUTCOME = word(layout.pack_outcome(Kind.SUCCESS, 0, 0, 0, 0))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outcomes"


def write(path, *parts, header=HEADER):
    notes = (part if isinstance(part, bytes) else layout.pack_note(0, part) for part in parts)
    path.write_bytes(layout.pack_header(header) + b"".join(notes))


def with_start(**start):
    return {**REGION, "start": {**START, **start}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"resil",
        b"something else that is long enough to be a header",
        layout.pack_header(HEADER)[:-1],
        layout.pack_header(HEADER).replace(b"\x01\x00", b"\x02\x00", 1),
        layout.pack_header(Header(1, 0, float("nan"))),
        layout.pack_header(Header(1, 0, 1e300)),
    ],
)
def test_files_that_are_no_recordings(path, data):
    path.write_bytes(data)
    with pytest.raises(NotARecordingError, match="is not a recording"):
        read_recording(path)


@pytest.mark.parametrize(
    "parts",
    [
        [REGION, OUTCOME],
        [ANCHOR, OUTCOME],
        [ANCHOR, REGION, word(Kind.SUCCESS | 5 << 4)],
        [word(15)],
        [word(Kind.NOTE | (layout.LONGEST_NOTE + 1) << 14)],
        [word(Kind.NOTE | 3 << 14), b"{{{\x00\x00\x00\x00\x00"],
        [word(Kind.NOTE | 2000 << 14), b"[" * 2000],
        [layout.pack_note(0, [])],
        [{"change": ["CLOSED", "OPEN", "x"], "at": 0, "by": None}],
        [REGION, {"unknown": 1}],
        [REGION, {"action": 1}],
        [REGION, {"action": {"unknown": 1}}],
        [REGION, {"action": {"reset": "now"}}],
        [REGION, {"action": {"force_open": 3, "at": 0}}],
        [REGION, {"action": {"policy": {"failure_threshold": 0}}}],
        [REGION, {"action": {"policy": 1}}],
        [REGION, {"chance": 1.5}],
        [REGION, {"chance": True}],
        [REGION, {"delay": "inf"}],
        [REGION, {"change": "x", "at": 0, "by": None}],
        [REGION, {"change": ["CLOSED", "OPEN"], "at": 0, "by": None}],
        [{**REGION, "region": 3}],
        [{**REGION, "policy": {"unknown": 3}}],
        [{**REGION, "policy": {"recovery_timeout": {"unknown": 3}}}],
        [{**REGION, "start": 3}],
        [with_start(state="BROKEN")],
        [with_start(streak=-1)],
        [with_start(streak=1.5)],
        [with_start(since="x")],
        [with_start(state="OPEN")],
    ],
)
def test_damaged_files(path, parts):
    write(path, *parts)
    with pytest.raises(NotARecordingError):
        read_recording(path)


def test_a_number_that_is_not_finite(path):
    text = b'{"delay":1e999}'
    note = word(Kind.NOTE | len(text) << 14) + text + b"\x00"
    write(path, REGION, note)
    with pytest.raises(NotARecordingError, match="finite"):
        read_recording(path)


def test_a_file_that_is_too_large(path, monkeypatch):
    monkeypatch.setattr("resilience.recording.reader._LARGEST_FILE", 10)
    write(path, REGION)
    with pytest.raises(NotARecordingError, match="larger than"):
        read_recording(path)


@pytest.mark.parametrize("cut", [3, 8, 11])
def test_an_end_that_is_missing(path, cut):
    write(path, REGION, ANCHOR, OUTCOME, {"delay": 12345})
    path.write_bytes(path.read_bytes()[:-cut])
    recorded = read_recording(path)
    assert recorded.is_cut_off
    assert recorded.count() == 1


def test_names_cannot_forge_lines(path):
    write(path, {**REGION, "region": "eu\n\x1b[31mwest"}, ANCHOR, OUTCOME)
    [recorded] = read_recording(path).regions
    assert recorded.region == display_name("eu\n\x1b[31mwest")


@pytest.mark.parametrize("header", [Header(2, 0, 0.0), Header(1, 3, 0.0)])
def test_the_file_before_belongs_to_another_recording(path, header):
    write(path, REGION, ANCHOR, OUTCOME, header=Header(1, 1, 0.0))
    write(path.with_name("outcomes.1"), REGION, ANCHOR, OUTCOME, header=header)
    recorded = read_recording(path)
    assert recorded.count() == 1
    assert not recorded.is_complete


def test_any_damage_is_an_error_or_is_survived(tmp_path):
    """Flip bytes at random: there may be nonsense, but no other exception."""
    traffic = Traffic(5, FakeClock())
    recording = traffic.registry.record(tmp_path / "outcomes")
    traffic.run(300)
    recording.close()
    good = (tmp_path / "outcomes").read_bytes()
    chance, damaged = random.Random(1), tmp_path / "damaged"
    survived = 0
    for _ in range(300):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(layout.HEADER_SIZE, len(data))] = chance.randrange(256)
        damaged.write_bytes(data)
        try:
            recorded = read_recording(damaged)
        except NotARecordingError:
            continue
        survived += 1
        for region in recorded.regions:
            compare(region, {"other": BreakerPolicy(failure_rate_threshold=0.5)})
        incident_reports(damaged)
    assert survived > 20


@pytest.mark.parametrize(
    "duration", [0, 1, 9_999, 16_383, 16_384, 2_000_000, 12_345_678, 10**11, 10**15, -5]
)
def test_durations_keep_four_digits(duration):
    kept = layout.duration_of(layout.pack_outcome(Kind.SUCCESS, 1023, 255, duration, 1))
    longest = 16_383 * 10**7
    wanted = min(max(0, duration), longest)
    assert wanted - wanted / 1000 <= kept <= wanted


def test_policies_survive_the_file(path):
    given = json.loads(json.dumps({"ramp": [2, 2], "recovery_timeout": {"first": 5}}))
    write(path, {**REGION, "policy": given})
    [recorded] = read_recording(path).regions
    assert recorded.policy.ramp == (2, 2)
    assert recorded.policy.backoff.first == 5


def test_nothing_was_recorded(tmp_path):
    CircuitBreakerRegistry().record(tmp_path / "outcomes").close()
    recorded = read_recording(tmp_path / "outcomes")
    assert recorded.regions == []
    assert recorded.is_complete
