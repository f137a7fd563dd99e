"""What this process and script.lua send to each other: requests, and the replies to them.

The store is not trusted. A reply that the script would not make is an `InvalidReplyError`.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from resilience._text import one_line
from resilience._validate import check_text
from resilience.integrations.redis.scripts import read_script
from resilience.shared_record import Change, Command, RecordState, RecordView

SCRIPT: Final = read_script("common.lua", "script.lua")
_FORMAT: Final = 1
_FIELDS_OF_A_REPLY: Final = 13
_FIELDS_BEFORE_RECORDS: Final = 2
_SECRET_LENGTH: Final = 32
# What the script answers to a command that was carried out, or that came after its time.
_DONE: Final = 1
_LATE: Final = 2
# The script keeps this many bytes of a text.
_MAX_TEXT: Final = 300
_MAX_KEY: Final = 100
_MAX_NUMBER: Final = 10**15
# Milliseconds. A recovery timeout may be longer, but the store counts no further than this.
_MAX_DURATION: Final = 10**11
# These commands report successes, the others how long ago something happened.
_WITH_SUCCESSES: Final = (Change.TAKE, Change.RENEW, Change.RELEASE)


class InvalidReplyError(Exception):
    """The store has replied what the script never replies."""


@dataclass(frozen=True, slots=True)
class Request:
    """One run of a script: its KEYS and its ARGV."""

    keys: list[str]
    arguments: list[str]
    script: str = SCRIPT


@dataclass(frozen=True, slots=True)
class Reply:
    """What the script has replied about one record.

    Args:
        view: The record, for the circuit.
        is_malformed: Whether something that is not a record stood in its place.
        is_late: Whether the command came too late to be carried out.
        store_time: The store's clock, in milliseconds.
    """

    view: RecordView
    is_malformed: bool
    is_late: bool
    store_time: int


@dataclass(frozen=True, slots=True)
class PollReply:
    """What the script has replied to a poll.

    Args:
        secret: Signs the notifications of this store.
        fleet_size: How many processes heard the last change, of whichever record; 0 if there was
            none.
        replies: One for each record.
    """

    secret: bytes
    fleet_size: int
    replies: list[Reply]


@dataclass(frozen=True, slots=True)
class RecordProtocol:
    """How this process reads and changes records.

    Args:
        prefix: The start of every key.
        client_id: Identifies this process.
        client_name: What other processes call it in events and logs.
        lease: Seconds that the lease for probes lasts without being renewed.
        quorum: How many processes must have tripped to open the circuit of all.
    """

    prefix: str
    client_id: str
    client_name: str
    lease: float
    quorum: int

    @property
    def channel(self) -> str:
        """The channel on which changes are announced."""
        return f"{{{self.prefix}}}:hints"

    @property
    def processes_key(self) -> str:
        """The key under which the processes that share are found."""
        return f"{{{self.prefix}}}:processes"

    @property
    def connection_name(self) -> str:
        """What the store's list of clients calls the connections of this process."""
        return re.sub("[^!-~]", "_", f"{self.prefix}:{self.client_name}")

    def key(self, region: str) -> str:
        """Return the key of a region; the braces keep all keys in one slot of a cluster."""
        return f"{{{self.prefix}}}:{_FORMAT}:{_to_key(region)}"

    def throttle_key(self, region: str, tenant: str) -> str:
        """Return the key of a tenant that is throttled."""
        return f"{{{self.prefix}}}:throttle:{_to_key(region)}:{_to_key(tenant)}"

    def list_key(self, region: str) -> str:
        """Return the key of the list of a region's tenants that are throttled."""
        return f"{{{self.prefix}}}:throttled:{_to_key(region)}"

    @property
    def lease_ms(self) -> str:
        """The duration of a lease in milliseconds, as the scripts take it."""
        return _to_ms(self.lease)

    @property
    def secret_key(self) -> str:
        """The key of the secret that notifications are signed with, and of the fleet's size."""
        return f"{{{self.prefix}}}:secret"

    def read(self, keys: list[str]) -> Request:
        """Read records."""
        return Request(keys, ["read", self.client_id, self.lease_ms])

    def poll(self, keys: list[str]) -> Request:
        """Read records and the secret, and find out whether the store does what changes need."""
        canary = f"{{{self.prefix}}}:canary:{self.client_id}"
        new_secret = secrets.token_hex(_SECRET_LENGTH // 2)
        return Request(
            [canary, self.secret_key, *keys],
            ["poll", self.client_id, self.lease_ms, self.channel, new_secret],
        )

    def change(
        self, key: str, command: Command, recovery_timeout: float, not_after: int
    ) -> Request:
        """Change a record, unless it is later than `not_after` by the store's clock."""
        reports_successes = command.change in _WITH_SUCCESSES
        return Request(
            [key, self.secret_key],
            [
                command.change.value,
                self.client_id,
                self.lease_ms,
                self.channel,
                str(command.version),
                _to_ms(recovery_timeout),
                str(self.quorum),
                str(command.successes) if reports_successes else _to_ms(command.age),
                _shorten(self.client_name),
                _shorten(command.reason),
                str(not_after),
            ],
        )


def check_prefix(prefix: str) -> None:
    """Reject a prefix that keys cannot begin with."""
    if not re.fullmatch(r"[!-z|~]{1,100}", check_text("prefix", prefix)):
        expected = "1 to 100 printable ASCII characters without spaces and braces"
        raise ValueError(f"prefix must be {expected}, got {one_line(prefix)!r}")


def parse_replies(answer: object, count: int, delay: float) -> list[Reply]:
    """Return what the script has replied about several records."""
    if not isinstance(answer, list) or len(answer) != count:
        raise InvalidReplyError
    return [parse_reply(one, delay) for one in answer]


def parse_poll(answer: object, count: int, delay: float) -> PollReply:
    """Return what the script has replied to a poll of several records."""
    if not isinstance(answer, list) or len(answer) != count + _FIELDS_BEFORE_RECORDS:
        raise InvalidReplyError
    secret, size, *replies = answer
    if not isinstance(secret, bytes) or len(secret) != _SECRET_LENGTH:
        raise InvalidReplyError
    return PollReply(secret, _number(size), parse_replies(replies, count, delay))


def parse_reply(answer: object, delay: float) -> Reply:
    """Return what the script has replied about one record.

    Args:
        answer: As redis-py hands it out.
        delay: Seconds between the request and the answer.

    Raises:
        InvalidReplyError: The script does not reply this.
    """
    if not isinstance(answer, list) or len(answer) != _FIELDS_OF_A_REPLY:
        raise InvalidReplyError
    record_format, *record, done, is_malformed, store_time = answer
    if _number(record_format) != _FORMAT:
        raise InvalidReplyError
    view = parse_record(record, is_done=_number(done) == _DONE, delay=delay)
    return Reply(view, bool(_number(is_malformed)), done == _LATE, _number(store_time))


def parse_record(fields: Sequence[object], *, is_done: bool, delay: float) -> RecordView:
    """Return a record.

    Args:
        fields: What the script replies about the record itself, in its order.
        is_done: Whether the command was carried out.
        delay: Seconds between the request and the answer.

    Raises:
        InvalidReplyError: The script does not reply this.
    """
    version, state, age, lease_left, is_mine, successes, is_opener, client_name, reason = fields
    return RecordView(
        version=_number(version),
        state=_record_state(state),
        age=_number(age) / 1000,
        lease_left=_number(lease_left) / 1000,
        lease_is_mine=bool(_number(is_mine)),
        successes=_number(successes),
        opened_by_me=bool(_number(is_opener)),
        by=_text(client_name),
        reason=_text(reason),
        done=is_done,
        delay=delay,
    )


def _to_key(name: str) -> str:
    """Return a name as a part of a key, of a bounded length."""
    quoted = quote(name.encode("utf-8", "surrogatepass"), safe="")
    if len(quoted) <= _MAX_KEY:
        return quoted
    return f"{quoted[:_MAX_KEY]}~{hashlib.sha256(quoted.encode()).hexdigest()[:16]}"


def _number(field: object) -> int:
    if type(field) is not int or not 0 <= field < _MAX_NUMBER:
        raise InvalidReplyError
    return field


def _text(field: object) -> str:
    if not isinstance(field, bytes) or len(field) > _MAX_TEXT:
        raise InvalidReplyError
    return one_line(field.decode("utf-8", "replace"))


def _record_state(field: object) -> RecordState:
    try:
        return RecordState(_text(field))
    except ValueError:
        raise InvalidReplyError from None


def _to_ms(seconds: float) -> str:
    return str(int(min(max(seconds * 1000, 0.0), float(_MAX_DURATION))))


def _shorten(text: str) -> str:
    line = one_line(text).encode("utf-8", "replace")[:_MAX_TEXT]
    return line.decode("utf-8", "ignore")
