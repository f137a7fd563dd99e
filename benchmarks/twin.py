"""The store without a server: what script.lua does, in Python and on any clock.

The simulation and the model tests run on it. tests/integration/redis/test_script.py compares it
with the script on a real server.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Reply: TypeAlias = list[int | bytes]

_MAX_LENGTH = {
    "f": 1,
    "v": 15,
    "s": 1,
    "at": 15,
    "own": 16,
    "beat": 15,
    "n": 15,
    "by": 16,
    "who": 300,
    "why": 300,
    "votes": 2000,
    "sum": 40,
}
_SECRET_LENGTH = {"secret": 32, "size": 15}
_MAX_CLOCK_ERROR, _MINUTE, _DAY, _YEAR = 1000, 60_000, 86_400_000, 31_536_000_000
_MOST_AHEAD = 100 * _YEAR
# The answers to a command.
_REFUSED, _DONE, _LATE = 0, 1, 2
_VOTE = re.compile("([0-9a-fA-F]+)=([0-9]+);")


@dataclass(slots=True)
class _Record:
    """The record of one region."""

    version: int
    state: str = "C"
    since: int = 0
    owner: str = ""
    renewed_at: int = 0
    successes: int = 0
    caused_by: str = ""
    client_name: str = ""
    reason: str = ""
    votes: dict[str, int] = field(default_factory=dict)

    def to_fields(self) -> dict[str, str]:
        votes = "".join(sorted(f"{voter}={at};" for voter, at in self.votes.items()))
        fields = {
            "f": "1",
            "v": str(self.version),
            "s": self.state,
            "at": str(self.since),
            "own": self.owner,
            "beat": str(self.renewed_at),
            "n": str(self.successes),
            "by": self.caused_by,
            "who": self.client_name,
            "why": self.reason,
            "votes": votes,
        }
        return fields | {"sum": _sha1(_to_line(fields))}

    def lease_left(self, lease: int, now: int) -> int:
        if self.state != "H" or not self.owner:
            return 0
        return min(lease, max(0, self.renewed_at + lease - now))


class Twin:
    """A store on a clock that its owner chooses.

    Args:
        now: Returns the store's time in milliseconds.
        publish: Called with the channel and the message of each notification; returns to how many
            it was sent.
    """

    def __init__(self, now: Callable[[], int], publish: Callable[[str, str], int]) -> None:
        self._now = now
        self.publish = publish
        self.hashes: dict[str, dict[str, str]] = {}
        self.expiry: dict[str, int] = {}
        self.commands = 0

    def run(
        self, keys: Sequence[str], arguments: Sequence[str]
    ) -> Reply | list[int | bytes | Reply]:
        """Do what the script does with these keys and arguments."""
        self.commands += 1
        now = self._now()
        self._expire(keys, now)
        command = arguments[0]
        if command in ("read", "poll"):
            return self._read(keys, arguments, now)
        return _Change(self, keys, arguments, now).run()

    def _expire(self, keys: Sequence[str], now: int) -> None:
        for key in keys:
            if key in self.expiry and self.expiry[key] <= now:
                del self.expiry[key]
                self.hashes.pop(key, None)

    def _read(
        self, keys: Sequence[str], arguments: Sequence[str], now: int
    ) -> list[int | bytes | Reply]:
        command, client_id, lease = arguments[0], arguments[1], int(arguments[2])
        polls = command == "poll"
        replies: list[int | bytes | Reply] = []
        if polls:
            replies += self._check_store(keys[0], keys[1], arguments[4], now)
        for key in keys[2:] if polls else keys:
            record, malformed = self.load(key, now)
            if polls and record is not None and record.state == "F":
                self.expiry[key] = now + _DAY
            caller = _Caller(client_id, lease)
            replies.append(_reply(record, caller, now, malformed=malformed, answer=_REFUSED))
        return replies

    def _check_store(
        self, canary: str, secret_key: str, new_secret: str, now: int
    ) -> tuple[bytes, int]:
        self.hashes[canary], self.expiry[canary] = {"at": str(now)}, now + _MINUTE
        secret, size = self.read_secret(secret_key)
        if not secret:
            self.hashes[secret_key] = {"secret": new_secret, "size": "0"}
            secret = new_secret
        self.expiry[secret_key] = now + _DAY
        return secret.encode(), size

    def read_secret(self, key: str) -> tuple[str, int]:
        """Return the secret, or an empty text; and the size of the fleet."""
        fields, _ = self._read_hash(key, _SECRET_LENGTH)
        return (fields["secret"], _to_number(fields["size"], _YEAR) or 0) if fields else ("", 0)

    def _read_hash(
        self, key: str, max_length: Mapping[str, int]
    ) -> tuple[dict[str, str] | None, int]:
        fields = self.hashes.get(key)
        if fields is None:
            return None, 0
        if set(fields) != set(max_length):
            return None, 1
        if any(len(fields[name].encode()) > maximum for name, maximum in max_length.items()):
            return None, 1
        return fields, 0

    def load(self, key: str, now: int) -> tuple[_Record | None, int]:
        """Return a record, or None; and 1 if something malformed stands in its place."""
        fields, strange = self._read_hash(key, _MAX_LENGTH)
        if fields is None:
            return None, strange
        if not _is_valid(fields):
            return None, 1
        version = _to_number(fields["v"], now + _MOST_AHEAD)
        since = _to_number(fields["at"], now + _MAX_CLOCK_ERROR)
        renewed_at = _to_number(fields["beat"], now + _MAX_CLOCK_ERROR)
        successes = _to_number(fields["n"], _YEAR)
        if version is None or since is None or renewed_at is None or successes is None:
            return None, 1
        record = _Record(
            version=version,
            state=fields["s"],
            since=since,
            owner=fields["own"],
            renewed_at=renewed_at,
            successes=successes,
            caused_by=fields["by"],
            client_name=fields["who"],
            reason=fields["why"],
            votes={voter: int(at) for voter, at in _VOTE.findall(fields["votes"])},
        )
        return record, 0


@dataclass(frozen=True, slots=True)
class _Caller:
    client_id: str
    lease: int


class _Change:
    """One command that may change one record."""

    def __init__(self, twin: Twin, keys: Sequence[str], arguments: Sequence[str], now: int) -> None:
        self._twin, self._now = twin, now
        self._key, self._secret_key = keys
        self._command, self._client_id, lease, self._channel = arguments[:4]
        numbers = [int(number) for number in arguments[4:8]]
        self._expected_version, self._recovery_timeout, self._quorum = numbers[:3]
        self._successes_or_age = numbers[3]
        self._client_name, self._reason, not_after = arguments[8:]
        self._not_after = int(not_after)
        self._caller = _Caller(self._client_id, int(lease))
        self._happened_at = max(0, now - self._successes_or_age)

    def run(self) -> Reply:
        found, malformed = self._twin.load(self._key, self._now)
        if self._now > self._not_after:
            return _reply(found, self._caller, self._now, malformed=malformed, answer=_LATE)
        needs_no_version = self._command in ("reset", "force", "withdraw")
        if found is not None and found.version > self._expected_version and not needs_no_version:
            return _reply(found, self._caller, self._now, malformed=malformed, answer=_REFUSED)
        self._absent = found is None or found.version < self._expected_version
        self._record = _Record(self._expected_version) if found is None or self._absent else found
        change: Callable[[], bool] = getattr(self, f"_{self._command}")
        answer = _DONE if change() else _REFUSED
        return _reply(self._record, self._caller, self._now, malformed=0, answer=answer)

    # The commands; each returns whether it was carried out

    def _trip(self) -> bool:
        record, now = self._record, self._now
        is_open = record.state == "F" or (record.state == "O" and not self._is_due())
        if is_open or self._lease_left() > 0:
            return False
        votes = record.votes | {self._client_id: self._happened_at}
        record.votes = {
            voter: at
            for voter, at in votes.items()
            if at <= now + _MAX_CLOCK_ERROR and now - at < self._recovery_timeout
        }
        if len(record.votes) >= self._quorum:
            self._enter("O", self._happened_at)
        else:
            self._save()
        return True

    def _withdraw(self) -> bool:
        if self._record.votes.pop(self._client_id, None) is None:
            return False
        self._save()
        return True

    def _take(self) -> bool:
        record = self._record
        if self._is_mine():
            record.renewed_at = self._now
            self._save()
            return True
        is_free = record.state == "H" and self._lease_left() == 0
        if not (self._absent or self._is_due() or is_free):
            return False
        if record.state != "H":
            record.successes = 0
        if self._absent:
            record.successes = self._successes_or_age
            record.client_name, record.reason = self._client_name, self._reason
        record.owner, record.renewed_at = self._client_id, self._now
        self._save_as_new_version("H", record.since if record.state == "H" else self._now)
        return True

    def _renew(self) -> bool:
        record = self._record
        if self._is_mine():
            record.successes = max(record.successes, self._successes_or_age)
            record.renewed_at = self._now
            self._save()
            return True
        if not self._absent:
            return False
        record.owner, record.renewed_at = self._client_id, self._now
        record.successes = self._successes_or_age
        record.client_name, record.reason = self._client_name, self._reason
        self._save_as_new_version("H", self._now)
        return True

    def _release(self) -> bool:
        record = self._record
        if not self._is_mine():
            return False
        record.successes = max(record.successes, self._successes_or_age)
        record.owner, record.renewed_at = "", 0
        self._save_as_new_version("H", record.since)
        return True

    def _close(self) -> bool:
        return self._end_probing("C", self._now)

    def _reopen(self) -> bool:
        return self._end_probing("O", self._happened_at)

    def _reset(self) -> bool:
        self._enter("C", self._now)
        return True

    def _force(self) -> bool:
        self._enter("F", self._now)
        return True

    # The steps

    def _end_probing(self, state: str, since: int) -> bool:
        record = self._record
        is_free = record.state == "O" or (record.state == "H" and not record.owner)
        if not (self._absent or self._is_mine() or is_free):
            return False
        self._enter(state, since)
        return True

    def _enter(self, state: str, since: int) -> None:
        record = self._record
        record.owner, record.renewed_at, record.successes, record.votes = "", 0, 0, {}
        record.caused_by, record.client_name = self._client_id, self._client_name
        record.reason = self._reason
        self._save_as_new_version(state, since)

    def _save_as_new_version(self, state: str, since: int) -> None:
        record = self._record
        record.version = max(record.version, self._expected_version, self._now - 1) + 1
        record.state, record.since = state, since
        self._announce(self._save())

    def _announce(self, line: str) -> None:
        hint = f"{self._record.version} {self._key}"
        secret, _ = self._twin.read_secret(self._secret_key)
        if secret:
            signature = _sha1(f"{secret}{self._now} {self._key} {line}{secret}")
            self._twin.publish(self._channel, f"{hint}\n{self._now} {signature} {line}")
        size = self._twin.publish(self._channel, hint)
        if secret:
            self._twin.hashes[self._secret_key]["size"] = str(size)

    def _save(self) -> str:
        fields = self._record.to_fields()
        self._twin.hashes[self._key] = fields
        forced = self._record.state == "F"
        lifetime = _DAY if forced else max(10 * self._recovery_timeout, _MINUTE)
        self._twin.expiry[self._key] = self._now + lifetime
        return _to_line(fields)

    def _is_mine(self) -> bool:
        return self._record.state == "H" and self._record.owner == self._client_id

    def _is_due(self) -> bool:
        age = self._now - self._record.since
        return self._record.state == "O" and age >= self._recovery_timeout

    def _lease_left(self) -> int:
        return self._record.lease_left(self._caller.lease, self._now)


def _reply(
    record: _Record | None, caller: _Caller, now: int, *, malformed: int, answer: int
) -> Reply:
    if record is None:
        return [1, 0, b"", 0, 0, 0, 0, 0, b"", b"", answer, malformed, now]
    return [
        1,
        record.version,
        record.state.encode(),
        max(0, now - record.since),
        record.lease_left(caller.lease, now),
        int(record.owner == caller.client_id),
        record.successes,
        int(record.caused_by == caller.client_id),
        record.client_name.encode(),
        record.reason.encode(),
        answer,
        malformed,
        now,
    ]


def _is_valid(fields: dict[str, str]) -> bool:
    return (
        fields["f"] == "1"
        and fields["s"] in set("COHF")
        and fields["sum"] == _sha1(_to_line(fields))
    )


def _to_number(text: str, maximum: int) -> int | None:
    if not re.fullmatch("[0-9]{1,15}", text) or int(text) > maximum:
        return None
    return int(text)


def _to_line(fields: dict[str, str]) -> str:
    """Write the fields of a record one after the other, each with its length."""
    return "".join(
        f"{len(fields[name].encode())}:{fields[name]}" for name in _MAX_LENGTH if name != "sum"
    )


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
