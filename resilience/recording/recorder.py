"""Recording: writes the outcomes of the calls of many circuits into a file, as they happen.

While a registry records, each of its circuits has a `CircuitRecorder` in front of it, and no call
is counted without the lock. All that is written comes in the order in which the circuits saw it, so
that a replay takes the same decisions. The words are collected, and written some hundred at a time.
"""

import atexit
import math
import os
import secrets
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from resilience import log
from resilience._lock import lock, postpone
from resilience._text import one_line
from resilience.circuit import Circuit, Rejection
from resilience.circuit_states import Call, CircuitState, Closed, Open, Ticket
from resilience.events import StateChanged
from resilience.identity import KeepsIdentity
from resilience.mode import FORCED_MODE, Mode
from resilience.outcome import ABANDONED, AttemptReport, DelayingReport, Outcome, Report
from resilience.policy import BreakerPolicy
from resilience.recording import layout
from resilience.recording.layout import Header, Kind
from resilience.recording.policies import policy_to_dict

# Words that are collected before they are written.
_BUFFERED = 512
# Calls of one region that may be in flight; beyond that, the oldest are not followed.
_MOST_IN_FLIGHT = 100_000
_KINDS = {
    Outcome.SUCCESS: Kind.SUCCESS,
    Outcome.FAILURE: Kind.FAILURE,
    Outcome.ANSWERED: Kind.ANSWERED,
    Outcome.IGNORED: Kind.IGNORED,
}


class Recording(KeepsIdentity):
    """A recording that is being written; `CircuitBreakerRegistry.record` starts one.

    The file holds the most recent outcomes. When it has half of `limit`, it becomes `path` with
    ``.1`` at its end, in the place of the one before, and a new file begins.

    Args:
        path: Where to write.
        limit: Outcomes to keep at most, 8 bytes each.
        now: The time of the circuits' clock, in seconds.
        on_outage: Takes the region after each outage, in its own thread; None: nobody does.

    Raises:
        OSError: The file cannot be written.
        RuntimeError: Another recording of this process writes there.
        ValueError: There is a file at the path that is not a recording.
    """

    NOT_PICKLED = "it writes a file of this process; read that file where it is needed"

    def __init__(
        self,
        path: Path,
        limit: int,
        now: float,
        on_outage: Callable[[str], object] | None = None,
    ) -> None:
        self.path = path
        self._most_words = max(1, limit // 2)
        self._id = secrets.randbits(64)
        self._part = 0
        self._clock_to_time = time.time() - now
        self._on_outage = on_outage
        self._reports: list[threading.Thread] = []
        self._process = os.getpid()
        self._buffer = bytearray()
        self._words = 0  # in the present file
        self._anchor: int | None = None
        self._numbers: dict[str, int] = {}
        self._recorders: dict[str, CircuitRecorder] = {}
        self._is_full = log.Once()
        #: What ends the registry's part of it.
        self.on_close: Callable[[], object] = _nothing
        self._file: int | None = None
        _claim(self)
        try:
            self._file = self._begin_file()
        except BaseException:
            _give_up(self)
            raise
        atexit.register(self.close)

    @property
    def is_open(self) -> bool:
        """Whether outcomes are still written."""
        return self._file is not None and self._process == os.getpid()

    def flush(self) -> None:
        """Write what was collected."""
        with lock:
            data, self._buffer = self._buffer, bytearray()
            if self._file is None:
                return
            if os.getpid() != self._process:  # the file is the parent's
                self._stop()
                return
            try:
                _write(self._file, data)
            except OSError as error:
                self._fail(error)

    def close(self) -> None:
        """Write the rest, and stop recording; reports of outages are waited for."""
        atexit.unregister(self.close)
        with lock:
            recorders, self._recorders = self._recorders, {}
            for recorder in recorders.values():  # once: another recording may follow
                recorder.end()
            self.flush()
            self._stop()
            reports, self._reports = self._reports, []
        self.on_close()
        for report in reports:
            if report is not threading.current_thread():
                report.join()

    def recorder_for(self, region: str, circuit: Circuit) -> "CircuitRecorder | None":
        """Return what records a circuit; None: it is not recorded. The caller holds the lock."""
        if FORCED_MODE is Mode.OFF:  # no call is counted, and a policy may hold anything
            return None
        known = self._recorders.get(region)
        if known is not None and known.circuit is circuit:
            return known
        if region not in self._numbers:
            if len(self._numbers) >= layout.MOST_REGIONS:
                if self._is_full.happens():
                    postpone(partial(log.log_not_recorded, region, layout.MOST_REGIONS))
                return None
            self._numbers[region] = len(self._numbers)
        recorder = CircuitRecorder(circuit, self, region, self._numbers[region])
        self._recorders[region] = recorder
        return recorder

    def note_change(self, change: StateChanged) -> None:
        """Note a change of a circuit's state, for comparison with the replay."""
        with lock:
            recorder = self._recorders.get(change.region)
            if recorder is None or self._file is None:
                return
            names = [change.old, change.new, change.reason]
            recorder.note({"change": names, "at": change.at, "by": change.by})
            self.flush()
        if change.new is CircuitState.CLOSED and self._on_outage is not None:
            report = threading.Thread(
                target=self._report,
                args=(self._on_outage, change.region),
                name="resilience-outage-report",
                daemon=True,
            )
            report.start()
            self._reports = [*filter(threading.Thread.is_alive, self._reports), report]

    def _report(self, on_outage: Callable[[str], object], region: str) -> None:
        try:
            on_outage(region)
        except Exception as fault:  # noqa: BLE001 - nobody else would learn of it
            log.log_fault("on_outage", on_outage, log.describe_exception(fault), region)

    # For the recorders; the caller holds the lock

    def write_outcome(self, kind: Kind, region: int, call: "CallInFlight", now: float) -> None:
        """Write the outcome of a call."""
        moment, began = layout.to_microseconds(now), layout.to_microseconds(call.since)
        if self._file is None or not (layout.is_time(moment) and layout.is_time(began)):
            return
        if self._words >= self._most_words:
            self._begin_next_file()
        if self._anchor is None or not 0 <= moment - self._anchor < layout.ANCHOR_REACH:
            self.flush()
            self._anchor = moment
            self._write_word(layout.pack_time(Kind.ANCHOR, moment))
        if call.words >= layout.MANY_WORDS:
            self._write_word(layout.pack_count(Kind.MANY, call.words))
        if call.attempt is not None:
            self._write_word(layout.pack_count(Kind.EARLIER, call.attempt))
        if call.is_counted:
            self._write_word(layout.pack_count(Kind.COUNTED, 0))
        if call.is_exact:
            self._write_word(layout.pack_time(Kind.BEGAN, began, call.order))
        since_anchor = moment - self._anchor
        self._write_word(
            layout.pack_outcome(kind, region, call.words, moment - began, since_anchor)
        )
        self._words += 1
        if len(self._buffer) >= _BUFFERED * layout.WORD:
            self.flush()

    def _write_word(self, word: int) -> None:
        self._buffer += word.to_bytes(layout.WORD, "little")

    def write_note(self, region: int, note: dict[str, object]) -> None:
        """Write a note about a region."""
        if self._file is not None:
            self._buffer += layout.pack_note(region, note)

    # The file

    def _begin_file(self) -> int:
        if self.path.exists():
            _check_is_recording(self.path)
            self.path.replace(f"{self.path}.1")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        file = os.open(self.path, flags, stat.S_IRUSR | stat.S_IWUSR)
        _write(file, layout.pack_header(Header(self._id, self._part, self._clock_to_time)))
        return file

    def _begin_next_file(self) -> None:
        self.flush()
        if self._file is None:
            return
        os.close(self._file)
        self._file = None
        self._part += 1
        try:
            self._file = self._begin_file()
        except (OSError, ValueError) as error:
            self._fail(error)
            return
        self._words, self._anchor = 0, None
        for recorder in self._recorders.values():
            recorder.introduce()

    def _fail(self, error: Exception) -> None:
        """Stop after an error. It is logged later: a user's sink must not run under the lock."""
        self._stop()
        postpone(partial(log.log_recording_failed, str(self.path), _describe_error(error)))

    def _stop(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
        self._file = None
        self._buffer.clear()
        _give_up(self)


@dataclass(slots=True)
class CallInFlight:
    """What is remembered of a call until it ends.

    Args:
        since: When it began, in seconds.
        words: How many words of its region had been written then, and in the end, how many were
            written while it ran.
        order: How many calls began before it since the last word of its region was written.
        is_exact: Whether the circuit has looked at the time when it began.
        attempt: The number of the word of its latest failed attempt, and in the end, how many words
            before the last one that was; None: no attempt was recorded.
        is_counted: Whether its failure was counted with that attempt.
    """

    since: float
    words: int
    order: int = 0
    is_exact: bool = False
    attempt: int | None = None
    is_counted: bool = False


class CircuitRecorder:
    """Stands in front of one circuit, and records what goes to it.

    Args:
        circuit: The circuit.
        recording: Where to write.
        region: The name of its region.
        number: The number of its region.
    """

    def __init__(self, circuit: Circuit, recording: Recording, region: str, number: int) -> None:
        self.circuit = circuit
        self._recording = recording
        self._region = region
        self._number = number
        # What was written of this region, and how many calls have begun since.
        self._words = self._begun = 0
        self._running: dict[Ticket, CallInFlight] = {}
        self._chance = circuit.chance
        circuit.chance = self._draw
        self.introduce(is_new=True)

    def introduce(self, *, is_new: bool = False) -> None:
        """Note all that a replay must know before the first outcome in a file.

        Args:
            is_new: Whether it is not the circuit that was recorded before.
        """
        state = self.circuit.state
        start: dict[str, object] = {"state": state.name, "since": state.since}
        start["streak"] = state.streak
        if isinstance(state, Closed):
            start["last_activity"] = _finite_or_none(state.last_activity)
        else:
            start["reason"] = state.reason
        if isinstance(state, Open):
            start["until"] = _finite_or_none(state.until)
        policy = policy_to_dict(self.circuit.policy)
        self.note({"region": self._region, "policy": policy, "start": start, "is_new": is_new})

    def note(self, note: dict[str, object]) -> None:
        """Write a note about this circuit's region."""
        self._recording.write_note(self._number, note)

    def _note_action(self, action: dict[str, object]) -> None:
        """Write what is done with the circuit, which has its place among the words."""
        self.note({"action": action})
        self._count_word()

    def end(self) -> None:
        """Note the calls that are in flight, and leave the circuit alone."""
        self.circuit.chance = self._chance
        latest = max((call.since for call in self._running.values()), default=0.0)
        for call in self._running.values():
            if call.attempt is None:
                self._write(Kind.UNFINISHED, call, latest)
        self._running.clear()

    # What goes to the circuit

    def admits_without_asking(self) -> None:
        """Leave each call to `acquire`, which sees all of them in order."""

    def acquire(self, now: float) -> Ticket | Rejection:
        """Admit a call, or reject it."""
        answer = self.circuit.acquire(now)
        if isinstance(answer, Rejection):
            self._write(Kind.REJECTED, CallInFlight(now, self._words), now)
        else:
            if len(self._running) >= _MOST_IN_FLIGHT:
                del self._running[next(iter(self._running))]
            is_exact = _has_lease(answer)
            self._running[answer] = CallInFlight(now, self._words, self._begun, is_exact)
            self._begun += 1
        return answer

    def reject(self, now: float) -> None:
        """Leave each call to `acquire` here as well."""

    def record(self, ticket: Ticket, report: Report, now: float) -> None:
        """Count the result of a call."""
        call = self._running.get(ticket)
        if call is not None:
            if isinstance(report, DelayingReport) and report.retry_after:
                self.note({"delay": min(report.retry_after, sys.float_info.max)})
            word = self._words
            if call.attempt is not None and isinstance(ticket, Call):
                call.is_counted = ticket.is_counted and report.outcome is Outcome.FAILURE
            self._write(_kind_of(report), call, now)
            if isinstance(report, AttemptReport):
                call.attempt = word
            else:
                del self._running[ticket]
        self.circuit.record(ticket, report, now)

    def count_stranded(self, now: float) -> None:
        """Count the calls that have been in flight for too long."""
        failures = self.circuit.totals().failures
        self.circuit.count_stranded(now)
        if self.circuit.totals().failures != failures:
            self._note_action({"stranded": now})

    def configure(self, policy: BreakerPolicy) -> None:
        """Change the rules."""
        if policy is not self.circuit.policy:
            self._note_action({"policy": policy_to_dict(policy)})
        self.circuit.configure(policy)

    def reset(self, now: float) -> None:
        """Close the circuit."""
        self._note_action({"reset": now})
        self.circuit.reset(now)

    def force_open(self, reason: str, now: float) -> None:
        """Open the circuit until `reset`."""
        self._note_action({"force_open": reason, "at": now})
        self.circuit.force_open(reason, now)

    def _write(self, kind: Kind, call: CallInFlight, now: float) -> None:
        attempt = None if call.attempt is None else self._words - call.attempt
        ended = replace(call, words=self._words - call.words, attempt=attempt)
        self._recording.write_outcome(kind, self._number, ended, now)
        self._count_word()

    def _count_word(self) -> None:
        self._words += 1
        self._begun = 0

    def _draw(self) -> float:
        chance = self._chance()
        self.note({"chance": chance})
        return chance


# Which recording of this process writes at a path, or moves its files there.
_writers: dict[str, Recording] = {}


def _claim(recording: Recording) -> None:
    """Let a recording have its path, or refuse it if another one writes there."""
    path = os.path.realpath(recording.path)
    with lock:
        if not _writers.keys().isdisjoint((path, f"{path}.1")):
            what = "another recording writes there: give each of them a path of its own"
            raise RuntimeError(f"cannot record to {one_line(str(recording.path))}: {what}")
        _writers.update({path: recording, f"{path}.1": recording})


def _give_up(recording: Recording) -> None:
    """Leave the path of a recording to others; the caller may hold the lock."""
    with lock:
        for path in [path for path, writer in _writers.items() if writer is recording]:
            del _writers[path]


def _has_lease(ticket: Ticket) -> bool:
    """Whether the circuit looks at the time when a call began before the call ends."""
    if isinstance(ticket, Call):
        return ticket.state.ramp is not None or ticket.state.in_flight is not None
    return True


def _kind_of(report: Report) -> Kind:
    if isinstance(report, AttemptReport):
        return Kind.ATTEMPT
    return Kind.ABANDONED if report is ABANDONED else _KINDS[report.outcome]


def _check_is_recording(path: Path) -> None:
    """Make sure that a file may be replaced."""
    with path.open("rb") as file:
        begin = file.read(layout.HEADER_SIZE)
    if begin and not begin.startswith(layout.MAGIC):
        raise ValueError(f"path must not name a file that is not a recording: {path}")


def _write(file: int, data: bytes | bytearray) -> None:
    """Write all of it; a file that takes only a part is cut back."""
    written = os.write(file, data)
    while written < len(data):
        written += os.write(file, data[written:])


def _describe_error(error: Exception) -> str:
    """Return what is wrong with a file, in short."""
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _finite_or_none(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _nothing() -> None:
    """Do nothing."""
