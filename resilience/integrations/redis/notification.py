"""What the store announces after a change of a record, and what is believed of it.

Anybody who may publish on the channel can send a notification, from another database as well, and
one may arrive late. What it says about the record is followed only if it was signed with the secret
of this store, and is fresh. Otherwise the record is read.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from resilience.integrations.redis.protocol import (
    InvalidReplyError,
    RecordProtocol,
    parse_record,
)
from resilience.integrations.redis.signed import is_genuine, split_fields
from resilience.shared_record import RecordState, RecordView

# A version and a key; after the end of the line, where it has been sent, a time, a signature and
# the fields of the record.
_NOTIFICATION: Final = re.compile(
    rb"([0-9]{1,15}) ([^\n]{1,500})(?:\n([0-9]{1,15}) ([0-9a-f]{40}) (.+))?", re.DOTALL
)
_FIELDS: Final = 11
#: How a message begins that is about a tenant, and not about the record of a region.
ABOUT_TENANT: Final = b"t "
_NUMBER: Final = re.compile(rb"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class SignedFields:
    """The fields of a record, as the script has announced them.

    Args:
        sent_at: When, by the store's clock, in milliseconds.
        signature: Shows that the script of this store has sent it.
        line: The fields, each with its length.
    """

    sent_at: int
    signature: bytes
    line: bytes


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification, of which nothing is believed yet.

    Args:
        key: The key of the record.
        version: The new version of the record.
        signed: The fields of the record, if they were sent.
    """

    key: str
    version: int
    signed: SignedFields | None

    @property
    def rank(self) -> tuple[int, bool]:
        """The newest one is followed, and of two equal ones that which has the fields."""
        return self.version, self.signed is not None

    def view(self, protocol: RecordProtocol, secret: bytes, delay: float) -> RecordView | None:
        """Return the record, if it was signed with this secret.

        Args:
            protocol: How this process reads records.
            secret: The secret of the store.
            delay: Seconds since it was sent, at most.
        """
        signed = self.signed
        if signed is None or not secret or not _is_genuine(self.key, signed, secret):
            return None
        try:
            fields = split_fields(signed.line, _FIELDS)
            view = _to_view(fields, signed.sent_at, protocol, delay)
        except InvalidReplyError:
            return None
        # The version in front is not signed: an older notification that somebody repeats with a
        # higher one would stand in for the newest.
        return view if view.version == self.version else None


def newest(contents: Iterable[bytes]) -> dict[str, Notification]:
    """Return the newest notification for each key.

    Args:
        contents: The contents of messages; those that are not a notification are dropped.
    """
    found: dict[str, Notification] = {}
    for content in dict.fromkeys(contents):
        match = _NOTIFICATION.fullmatch(content)
        if match is None:
            continue
        key, version = match[2].decode("utf-8", "replace"), int(match[1])
        signed = SignedFields(int(match[3]), match[4], match[5]) if match[3] else None
        notification = Notification(key, version, signed)
        if key not in found or notification.rank > found[key].rank:
            found[key] = notification
    return found


def _is_genuine(key: str, signed: SignedFields, secret: bytes) -> bool:
    text = b"%d %s %s" % (signed.sent_at, key.encode("utf-8", "replace"), signed.line)
    return is_genuine(text, signed.signature, secret)


def _to_view(
    fields: list[bytes], sent_at: int, protocol: RecordProtocol, delay: float
) -> RecordView:
    """Return the record as the script would have replied it to this process at that moment."""
    _, version, state, since, owner, renewed_at, successes, caused_by, who, why, _ = fields
    me = protocol.client_id.encode()
    lease_left = 0
    if state == RecordState.HALF_OPEN.encode() and owner:
        lease = int(protocol.lease * 1000)
        lease_left = min(lease, max(0, _number(renewed_at) + lease - sent_at))
    reply = [
        _number(version),
        state,
        max(0, sent_at - _number(since)),
        lease_left,
        int(owner == me),
        _number(successes),
        int(caused_by == me),
        who,
        why,
    ]
    return parse_record(reply, is_done=False, delay=delay)


def _number(field: bytes) -> int:
    if not _NUMBER.fullmatch(field):
        raise InvalidReplyError
    return int(field)
