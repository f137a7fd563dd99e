"""Reading a recording. The file is not trusted: whatever it holds, it is data, checked here."""

import json
import math
import sys
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from resilience._text import display_name, one_line
from resilience.policy import BreakerPolicy
from resilience.recording import layout
from resilience.recording.layout import Kind
from resilience.recording.policies import policy_from_dict

# Bytes; the largest file that is read into memory.
_LARGEST_FILE = 1 << 28

_PREFIXES = frozenset((int(Kind.MANY), int(Kind.BEGAN), int(Kind.EARLIER), int(Kind.COUNTED)))

#: The kinds of words that say that the region is up, and that it is down.
ANSWERS: Final = frozenset((int(Kind.SUCCESS), int(Kind.ANSWERED)))
FAILURES: Final = frozenset((int(Kind.FAILURE), int(Kind.ATTEMPT)))


class NotARecordingError(ValueError):
    """A file is not a recording, or is damaged."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of state that was recorded."""

    old: str
    new: str
    reason: str
    at: float
    by: str | None


@dataclass(frozen=True, slots=True)
class Start:
    """The state of a circuit when its recording began."""

    state: str = "CLOSED"
    since: float = 0.0
    streak: int = 0
    last_activity: float = -math.inf
    reason: str = ""
    until: float = math.inf


@dataclass(frozen=True, slots=True)
class Action:
    """What was done with a circuit, other than calls.

    Args:
        policy: The policy from then on; with `start`, that of the other circuit; None: as before.
        forced_open: Why the circuit was opened by hand; None: it was not.
        at: When something was done by hand.
        is_reset: Whether the circuit was reset by hand.
        start: The state of another circuit that begins here, in the place of the one before.
        is_look: Whether the circuit was asked at that time for calls that are in flight too long.
    """

    policy: BreakerPolicy | None = None
    forced_open: str | None = None
    at: float = 0.0
    is_reset: bool = False
    start: Start | None = None
    is_look: bool = False


@dataclass(slots=True, eq=False)
class RegionRecording:
    """What was recorded of one region.

    Args:
        region: Its name.
        policy: Its policy at the beginning.
        start: Its state at the beginning; None where it cannot be known.
        words: One for each outcome, rejection and action.
        times: When those happened, in microseconds of the clock.
        actions: What the NOTE of an index stands for.
        delays: Seconds that the server asked for with the failure of an index.
        chances: What was drawn for jitter, in order.
        changes: How the state changed.
        while_running: How many words were written while the call of an index ran, if many were.
        began: When the call of an index began, in microseconds, and in which order among those that
            began at the same place, where that is known exactly.
        attempts: The word of an earlier attempt of the call of an index.
        counted: The words of failures that were counted with an earlier attempt.
        is_started: Whether `start` was read.
    """

    region: str
    policy: BreakerPolicy = field(default_factory=BreakerPolicy)
    start: Start = field(default_factory=Start)
    words: "array[int]" = field(default_factory=lambda: array("Q"))
    times: "array[int]" = field(default_factory=lambda: array("q"))
    actions: dict[int, Action] = field(default_factory=dict[int, Action])
    delays: dict[int, float] = field(default_factory=dict[int, float])
    chances: list[float] = field(default_factory=list[float])
    changes: list[Change] = field(default_factory=list[Change])
    while_running: dict[int, int] = field(default_factory=dict[int, int])
    began: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    attempts: dict[int, int] = field(default_factory=dict[int, int])
    counted: set[int] = field(default_factory=set[int])
    is_started: bool = False
    _likely_kinds: dict[int, int] | None = None

    def count(self) -> int:
        """Count the outcomes and rejections."""
        return len(self.words) - len(self.actions)

    def likely_kind_of(self, index: int) -> int:
        """Return how a call that was rejected would have ended, as far as others show it.

        That is how the next call ended that said something about the region; without one, IGNORED.
        """
        if self._likely_kinds is None:
            self._likely_kinds = {}
            kind_after = int(Kind.IGNORED)
            for one in range(len(self.words) - 1, -1, -1):
                kind = self.words[one] & 15
                if kind == Kind.REJECTED:
                    self._likely_kinds[one] = kind_after
                elif kind in FAILURES:
                    kind_after = int(Kind.FAILURE)
                elif kind in ANSWERS:
                    kind_after = int(Kind.SUCCESS)
        return self._likely_kinds[index]

    def began_before(self, index: int) -> int:
        """Return before which word the call of a word began; that is not after the word itself."""
        words = layout.words_while(self.words[index])
        if words == layout.MANY_WORDS:
            words = self.while_running.get(index, words)
        return max(0, index - words)

    def began_at(self, index: int) -> int:
        """Return when the call of a word began, in microseconds."""
        if index in self.began:
            return self.began[index][0]
        return self.times[index] - layout.duration_of(self.words[index])

    def order_of(self, index: int) -> int:
        """Return how many calls began before that of a word, at the same place among the words."""
        return self.began[index][1] if index in self.began else 0


@dataclass(slots=True, eq=False)
class Recorded:
    """A recording that was read.

    Args:
        regions: What was recorded of each region, by its display name: printable, and different
            for every region.
        clock_to_time: What must be added to the clock's seconds for seconds since 1970.
        is_complete: Whether it goes back to its beginning.
        is_cut_off: Whether the end of the file is missing.
    """

    regions: list[RegionRecording]
    clock_to_time: float
    is_complete: bool
    is_cut_off: bool

    def count(self) -> int:
        """Count the outcomes and rejections."""
        return sum(recorded.count() for recorded in self.regions)


def read_recording(path: str | Path) -> Recorded:
    """Read a recording, together with the file before it if that is part of it.

    Args:
        path: The file that `CircuitBreakerRegistry.record` was given.

    Raises:
        OSError: It cannot be read.
        NotARecordingError: It is not a recording, or it is damaged.
    """
    newest = _read_file(Path(path))
    header = _unpack_header(Path(path), newest)
    parts = [newest]
    first = header.part
    before = Path(f"{path}.1")
    if header.part and before.is_file():
        older = _read_file(before)
        older_header = _unpack_header(before, older)
        if older_header[:2] == (header.recording, header.part - 1):
            parts.insert(0, older)
            first -= 1
    table: dict[str, RegionRecording] = {}
    is_cut_off = False
    for part in parts:
        try:
            is_cut_off = _PartReader(part, table).read()
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise NotARecordingError(f"{one_line(str(path))} is damaged: {error}") from None
    return Recorded([*table.values()], header.clock_to_time, first == 0, is_cut_off)


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_LARGEST_FILE + 1)
    if len(data) > _LARGEST_FILE:
        raise NotARecordingError(f"{path} is larger than {_LARGEST_FILE >> 20} MB")
    return data


def _unpack_header(path: Path, data: bytes) -> layout.Header:
    try:
        return layout.unpack_header(data)
    except ValueError as error:
        raise NotARecordingError(f"{path} is not a recording: {error}") from None


class _PartReader:
    """Reads one file of a recording.

    Args:
        data: The file.
        table: The regions by their names, of the files before and of this one.
    """

    def __init__(self, data: bytes, table: dict[str, RegionRecording]) -> None:
        whole = len(data) - (len(data) - layout.HEADER_SIZE) % layout.WORD
        self._words = array("Q", data[layout.HEADER_SIZE : whole])
        if sys.byteorder == "big":  # pragma: no cover - no such machine runs the tests
            self._words.byteswap()
        self._data = data
        self._table = table
        self._by_number: dict[int, RegionRecording] = {}
        self._is_cut_off = whole < len(data)

    def read(self) -> bool:
        """Read all of it into the table; return whether its end is missing."""
        words, by_number = self._words, self._by_number
        anchor: int | None = None
        prefixes: list[int] = []
        place, end = 0, len(words)
        while place < end:
            word = words[place]
            place += 1
            kind = word & 15
            if kind < Kind.ANCHOR:
                recorded = by_number.get((word >> 4) & 1023)
                if anchor is None or recorded is None:
                    raise ValueError("an outcome has no region, or no time")
                if prefixes:
                    self._read_prefixes(recorded, prefixes)
                    prefixes.clear()
                recorded.words.append(word)
                recorded.times.append(anchor + (word >> 39))
            elif kind == Kind.ANCHOR:
                anchor, _ = layout.unpack_time(word)
            elif kind in _PREFIXES:
                prefixes.append(word)
            elif kind == Kind.NOTE:
                size = layout.note_size(word)
                if size > layout.LONGEST_NOTE:
                    raise ValueError(f"a note has {size} bytes")
                begin = layout.HEADER_SIZE + place * layout.WORD
                place += -(-size // layout.WORD)
                if place > end:
                    return True
                self._read_note(layout.region_of(word), self._data[begin : begin + size])
            else:
                raise ValueError(f"there is no word of kind {kind}")
        return self._is_cut_off

    def _read_prefixes(self, recorded: RegionRecording, prefixes: list[int]) -> None:
        index = len(recorded.words)
        for word in prefixes:
            if word & 15 == Kind.MANY:
                recorded.while_running[index] = word >> 4
            elif word & 15 == Kind.EARLIER:
                recorded.attempts[index] = index - (word >> 4)
            elif word & 15 == Kind.COUNTED:
                recorded.counted.add(index)
            else:
                recorded.began[index] = layout.unpack_time(word)

    def _read_note(self, number: int, text: bytes) -> None:
        note: object = json.loads(text)
        if not isinstance(note, dict):
            raise TypeError("a note is not an object")
        if "region" in note:
            name = display_name(_raw_text(note, "region"))
            recorded = self._table.setdefault(name, RegionRecording(name))
            self._by_number[number] = recorded
            _introduce(recorded, note)
            return
        recorded = self._by_number[number]
        if "chance" in note:
            recorded.chances.append(_share(note, "chance"))
        elif "change" in note:
            recorded.changes.append(_change(note))
        elif "delay" in note:
            recorded.delays[len(recorded.words)] = _number(note, "delay")
        else:
            _add_action(recorded, _action(note["action"]))


def _introduce(recorded: RegionRecording, note: dict[str, object]) -> None:
    """Take in how a circuit began, unless it goes on from the file before."""
    policy, start = policy_from_dict(note["policy"]), _start(note["start"])
    if not recorded.is_started:
        recorded.policy, recorded.start, recorded.is_started = policy, start, True
    elif note["is_new"]:
        _add_action(recorded, Action(policy=policy, start=start, at=start.since))


def _add_action(recorded: RegionRecording, action: Action) -> None:
    recorded.actions[len(recorded.words)] = action
    recorded.words.append(Kind.NOTE)
    recorded.times.append(recorded.times[-1] if recorded.times else 0)


def _action(given: object) -> Action:
    if not isinstance(given, dict):
        raise TypeError("an action is not an object")
    if "policy" in given:
        return Action(policy=policy_from_dict(given["policy"]))
    if "force_open" in given:
        return Action(forced_open=_text(given, "force_open"), at=_number(given, "at"))
    if "reset" in given:
        return Action(is_reset=True, at=_number(given, "reset"))
    return Action(is_look=True, at=_number(given, "stranded"))


def _change(note: dict[str, object]) -> Change:
    change = note["change"]
    if not isinstance(change, list):
        raise TypeError("a change is not a list")
    old, new, reason = (_text({"change": part}, "change") for part in change)
    by = None if note["by"] is None else _text(note, "by")
    return Change(old, new, reason, _number(note, "at"), by)


def _start(given: object) -> Start:
    if not isinstance(given, dict):
        raise TypeError("a start is not an object")
    state = _text(given, "state")
    streak = given["streak"]
    if state not in {"CLOSED", "OPEN", "HALF_OPEN"} or type(streak) is not int or streak < 0:
        raise ValueError("a start is not a state")
    last_activity = given.get("last_activity")
    until = given.get("until")
    return Start(
        state=state,
        since=_number(given, "since"),
        streak=streak,
        last_activity=-math.inf if last_activity is None else _number(given, "last_activity"),
        reason="" if state == "CLOSED" else _text(given, "reason"),
        until=math.inf if until is None else _number(given, "until"),
    )


def _text(note: dict[str, object], name: str) -> str:
    return one_line(_raw_text(note, name))


def _raw_text(note: dict[str, object], name: str) -> str:
    text = note[name]
    if not isinstance(text, str):
        raise TypeError(f"{name} is not text")
    return text


def _number(note: dict[str, object], name: str) -> float:
    number = note[name]
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{name} is not a number")
    if not math.isfinite(number):
        raise ValueError(f"{name} is not finite")
    return float(number)


def _share(note: dict[str, object], name: str) -> float:
    number = _number(note, name)
    if not 0.0 <= number < 1.0:
        raise ValueError(f"{name} is not between 0 and 1")
    return number
