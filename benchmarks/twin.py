"""The store without a server: what script.lua does, in Python and on any clock.

The simulation and the model tests run on it. tests/integration/redis/test_script.py holds it equal
to the script on a real server.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Reply: TypeAlias = list[int | bytes]

_FIELDS = ("f", "v", "s", "at", "own", "beat", "n", "by", "who", "why", "votes")
_LONGEST = {
    "f": 1, "v": 15, "s": 1, "at": 15, "own": 16, "beat": 15, "n": 15, "by": 16, "who": 300,
    "why": 300, "votes": 2000,
}  # fmt: skip
_SOON, _YEAR, _DAY = 1000, 31_536_000_000, 86_400_000
_CANARY_TTL = 60_000
_LATE = 2
_VOTE = "([0-9a-fA-F]+)=([0-9]+);"


@dataclass(slots=True)
class _Record:
    """One region as the fleet sees it."""

    v: int
    s: str = "C"
    at: int = 0
    own: str = ""
    beat: int = 0
    n: int = 0
    by: str = ""
    who: str = ""
    why: str = ""
    votes: dict[str, int] = field(default_factory=dict)

    def raw(self) -> dict[str, str]:
        votes = "".join(f"{id_}={at};" for id_, at in self.votes.items())
        raw = {
            "f": "1", "v": str(self.v), "s": self.s, "at": str(self.at), "own": self.own,
            "beat": str(self.beat), "n": str(self.n), "by": self.by, "who": self.who,
            "why": self.why, "votes": votes,
        }  # fmt: skip
        return raw | {"sum": _checksum(raw)}


class Twin:
    """A store on a clock of its own.

    Args:
        now: Says the store's time in milliseconds.
        publish: Is told each hint: the channel and the message.
    """

    def __init__(self, now: Callable[[], int], publish: Callable[[str, str], object]) -> None:
        self._now = now
        self._publish = publish
        self.hashes: dict[str, dict[str, str]] = {}
        self.expiry: dict[str, int] = {}
        self.commands = 0

    def run(self, keys: Sequence[str], arguments: Sequence[str]) -> Reply | list[Reply]:
        """Do what the script does with these keys and arguments."""
        self.commands += 1
        now = self._now()
        for key in keys:
            if self.expiry.get(key, now + 1) <= now:
                del self.expiry[key]
                self.hashes.pop(key, None)
        operation, me, lease = arguments[0], arguments[1], int(arguments[2])
        if operation in ("read", "poll"):
            return self._read(operation, keys, me, lease, now)
        return _Step(self, keys[0], arguments, now).run()

    def _read(
        self, operation: str, keys: Sequence[str], me: str, lease: int, now: int
    ) -> list[Reply]:
        polls = operation == "poll"
        if polls:
            self.expiry[keys[0]] = now + _CANARY_TTL
        views = []
        for key in keys[polls:]:
            record, bad = self.load(key, now)
            if polls and record is not None and record.s == "F":
                self.expiry[key] = now + _DAY
            views.append(_view(record, me, lease, now, bad=bad, done=0))
        return views

    def load(self, key: str, now: int) -> tuple[_Record | None, int]:
        """Give the record, or nothing, and whether there is something that is no record."""
        raw = self.hashes.get(key)
        if raw is None:
            return None, 0
        if set(raw) != {*_FIELDS, "sum"}:
            return None, 1
        if any(len(raw[name].encode()) > _LONGEST[name] for name in _FIELDS):
            return None, 1
        if raw["f"] != "1" or raw["s"] not in set("COHF") or raw["sum"] != _checksum(raw):
            return None, 1
        v, at, beat, n = (
            _whole(raw[name], most)
            for name, most in (
                ("v", now + _YEAR), ("at", now + _SOON), ("beat", now + _SOON), ("n", _YEAR),
            )
        )  # fmt: skip
        if v is None or at is None or beat is None or n is None:
            return None, 1
        votes = {
            id_: int(when) for id_, when in re.findall("([0-9a-fA-F]+)=([0-9]+);", raw["votes"])
        }
        who, why = raw["who"], raw["why"]
        return _Record(v, raw["s"], at, raw["own"], beat, n, raw["by"], who, why, votes), 0

    def publish(self, channel: str, message: str) -> None:
        """Tell a hint."""
        self._publish(channel, message)


class _Step:
    """One change of one record."""

    def __init__(self, twin: Twin, key: str, arguments: Sequence[str], now: int) -> None:
        self.twin, self.key, self.now = twin, key, now
        self.operation, self.me, lease, self.channel, *rest = arguments
        self.expected, self.recovery, self.quorum, self.argument = map(int, rest[:4])
        self.who, self.why, not_after = rest[4:]
        self.lease, self.not_after = int(lease), int(not_after)

    def run(self) -> Reply:
        found, bad = self.twin.load(self.key, self.now)
        if self.now > self.not_after:
            return _view(found, self.me, self.lease, self.now, bad=bad, done=_LATE)
        unconditional = self.operation in ("reset", "force", "withdraw")
        if found is not None and found.v > self.expected and not unconditional:
            return _view(found, self.me, self.lease, self.now, bad=bad, done=0)
        self.absent = found is None or found.v < self.expected
        self.r = _Record(self.expected) if found is None or self.absent else found
        self.mine = self.r.s == "H" and self.r.own == self.me
        self.due = self.r.s == "O" and self.now - self.r.at >= self.recovery
        self.since = max(0, self.now - self.argument)
        done = int(getattr(self, f"_{self.operation}")())
        return _view(self.r, self.me, self.lease, self.now, bad=0, done=done)

    def _trip(self) -> bool:
        r, now = self.r, self.now
        if r.s == "F" or (r.s == "O" and not self.due) or self._left() > 0:
            return False
        votes = r.votes | {self.me: self.since}
        r.votes = {
            id_: at for id_, at in votes.items() if at <= now + _SOON and now - at < self.recovery
        }
        if len(r.votes) >= self.quorum:
            self._settle("O", self.since)
        else:
            self._save()
        return True

    def _withdraw(self) -> bool:
        if self.r.votes.pop(self.me, None) is None:
            return False
        self._save()
        return True

    def _take(self) -> bool:
        r = self.r
        if self.mine:
            r.beat = self.now
            self._save()
            return True
        if not (self.absent or self.due or (r.s == "H" and self._left() == 0)):
            return False
        if r.s != "H":
            r.n = 0
        if self.absent:
            r.n, r.who, r.why = self.argument, self.who, self.why
        r.own, r.beat = self.me, self.now
        self._change("H", r.at if r.s == "H" else self.now)
        return True

    def _renew(self) -> bool:
        r = self.r
        if self.mine:
            r.n, r.beat = max(r.n, self.argument), self.now
            self._save()
        elif self.absent:
            r.own, r.beat, r.n = self.me, self.now, self.argument
            r.who, r.why = self.who, self.why
            self._change("H", self.now)
        return self.mine or self.absent

    def _release(self) -> bool:
        r = self.r
        if self.mine:
            r.n, r.own, r.beat = max(r.n, self.argument), "", 0
            self._change("H", r.at)
        return self.mine

    def _close(self) -> bool:
        return self._may_settle() and self._settle("C", self.now)

    def _reopen(self) -> bool:
        return self._may_settle() and self._settle("O", self.since)

    def _reset(self) -> bool:
        return self._settle("C", self.now)

    def _force(self) -> bool:
        return self._settle("F", self.now)

    def _may_settle(self) -> bool:
        free = self.r.s == "H" and not self.r.own
        return self.absent or self.mine or self.r.s == "O" or free

    def _left(self) -> int:
        return _left_of_lease(self.r, self.lease, self.now)

    def _settle(self, state: str, at: int) -> bool:
        r = self.r
        r.own, r.beat, r.n, r.votes = "", 0, 0, {}
        r.by, r.who, r.why = self.me, self.who, self.why
        self._change(state, at)
        return True

    def _change(self, state: str, at: int) -> None:
        r = self.r
        r.v = max(r.v, self.expected, self.now - 1) + 1
        r.s, r.at = state, at
        self._save()
        self.twin.publish(self.channel, f"{r.v} {self.key}")

    def _save(self) -> None:
        self.twin.hashes[self.key] = self.r.raw()
        ttl = _DAY if self.r.s == "F" else max(10 * self.recovery, 60_000)
        self.twin.expiry[self.key] = self.now + ttl


def _left_of_lease(r: _Record, lease: int, now: int) -> int:
    if r.s != "H" or not r.own:
        return 0
    return min(lease, max(0, r.beat + lease - now))


def _view(r: _Record | None, me: str, lease: int, now: int, *, bad: int, done: int) -> Reply:
    if r is None:
        return [1, 0, b"", 0, 0, 0, 0, 0, b"", b"", done, bad, now]
    return [
        1, r.v, r.s.encode(), max(0, now - r.at), _left_of_lease(r, lease, now), int(r.own == me),
        r.n, int(r.by == me), r.who.encode(), r.why.encode(), done, bad, now,
    ]  # fmt: skip


def _whole(value: str, most: int) -> int | None:
    if not re.fullmatch("[0-9]{1,15}", value) or int(value) > most:
        return None
    return int(value)


def _checksum(raw: dict[str, str]) -> str:
    parts = (f"{len(raw[name].encode())}:{raw[name]}" for name in _FIELDS)
    return hashlib.sha1("".join(parts).encode(), usedforsecurity=False).hexdigest()
