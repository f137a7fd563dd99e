"""What this process and throttles.lua send to each other, and what the script announces.

The store is not trusted, and neither is whoever may publish on its channel. A reply that the script
would not make is an `InvalidReplyError`; an announcement that it has not signed is dropped.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from resilience._text import LONGEST_NAME
from resilience.integrations.redis.protocol import InvalidReplyError, RecordProtocol, Request
from resilience.integrations.redis.scripts import read_script
from resilience.integrations.redis.signed import is_genuine, split_fields
from resilience.shared_tenant_table import ThrottleCommand, ThrottleView

SCRIPT: Final = read_script("common.lua", "throttles.lua")
# Of each region, this many of the tenants that wait longest are found.
_MOST_FOUND: Final = 200
_FIELDS_OF_A_REPLY: Final = 6
_LATE: Final = 2
_MAX_NUMBER: Final = 10**15
_HOUR: Final = 3_600_000
_ANNOUNCEMENT: Final = re.compile(rb"t ([0-9]{1,15}) ([0-9a-f]{40}) (.{1,3000})", re.DOTALL)
# Key of the region, tenant, client id, change, kind, wait, lease.
_FIELDS_OF_A_LINE: Final = 7


@dataclass(frozen=True, slots=True)
class ThrottleReply:
    """What the script has replied to a command.

    Args:
        view: What the store says about the tenant now.
        is_late: Whether the command came too late to be carried out.
        store_time: The store's clock, in milliseconds.
    """

    view: ThrottleView
    is_late: bool
    store_time: int


@dataclass(frozen=True, slots=True)
class Announcement:
    """A change of a tenant's record that the script of this store has announced.

    Args:
        region_key: The key of its region's record.
        tenant: The name of the tenant.
        client_id: The process that has made the change.
        sent_at: When, by the store's clock, in milliseconds.
        view: What the store said about the tenant then.
    """

    region_key: str
    tenant: str
    client_id: str
    sent_at: int
    view: ThrottleView


@dataclass(frozen=True, slots=True)
class ThrottleProtocol:
    """How this process reads and changes the records of tenants.

    Args:
        records: How it does that with the records of regions.
    """

    records: RecordProtocol

    def find(self, regions: list[str]) -> Request:
        """Read which tenants of some regions are throttled."""
        keys = [self.records.list_key(region) for region in regions]
        arguments = ["find", self.records.client_id, self.records.lease_ms, str(_MOST_FOUND)]
        return Request(keys, arguments, SCRIPT)

    def change(self, region: str, command: ThrottleCommand, not_after: int) -> Request:
        """Change the record of a tenant, unless it is later than `not_after` there."""
        records = self.records
        return Request(
            [
                records.throttle_key(region, command.tenant),
                records.list_key(region),
                records.secret_key,
            ],
            [
                command.change.value,
                records.client_id,
                records.lease_ms,
                records.channel,
                records.key(region),
                command.tenant,
                str(min(int(command.wait * 1000) + 1, _HOUR)),
                "h" if command.is_hold else "r",
                str(not_after),
            ],
            SCRIPT,
        )


def parse_found(answer: object, count: int) -> list[list[tuple[str, ThrottleView]]]:
    """Return the tenants that are throttled in some regions."""
    if not isinstance(answer, list) or len(answer) != count:
        raise InvalidReplyError
    return [_parse_tenants(one) for one in answer]


def _parse_tenants(answer: object) -> list[tuple[str, ThrottleView]]:
    if not isinstance(answer, list) or len(answer) % 2 or len(answer) > 2 * _MOST_FOUND:
        raise InvalidReplyError
    found: list[tuple[str, ThrottleView]] = []
    for name, wait in zip(answer[::2], answer[1::2], strict=True):
        if not isinstance(name, bytes):
            raise InvalidReplyError
        tenant = _to_tenant(name)
        if tenant:
            found.append((tenant, ThrottleView(wait=_number(wait, _HOUR) / 1000)))
    return found


def parse_throttle_reply(answer: object, delay: float) -> ThrottleReply:
    """Return what the script has replied to a command.

    Args:
        answer: As redis-py hands it out.
        delay: Seconds between the request and the answer.

    Raises:
        InvalidReplyError: The script does not reply this.
    """
    if not isinstance(answer, list) or len(answer) != _FIELDS_OF_A_REPLY:
        raise InvalidReplyError
    result, wait, kind, lease_left, is_mine, store_time = answer
    if kind not in (b"r", b"h"):
        raise InvalidReplyError
    view = ThrottleView(
        wait=_number(wait, _HOUR) / 1000,
        is_hold=kind == b"h",
        # This process may have asked right before the answer, or as long ago as it took.
        lease_left=max(0.0, _number(lease_left, _MAX_NUMBER) / 1000 - delay),
        lease_is_mine=bool(_number(is_mine, 1)),
    )
    return ThrottleReply(view, _number(result, _LATE) == _LATE, _number(store_time, _MAX_NUMBER))


def genuine(contents: Iterable[bytes], secret: bytes) -> list[Announcement]:
    """Return the announcements that this store has signed, in their order.

    Args:
        contents: The contents of messages; those that are not an announcement are dropped.
        secret: The secret of the store; empty: it is not known, and nothing is believed.
    """
    found: list[Announcement] = []
    for content in dict.fromkeys(contents):
        match = _ANNOUNCEMENT.fullmatch(content)
        if match is None or not secret:
            continue
        sent_at, signature, line = match.groups()
        if is_genuine(b"%b t %b" % (sent_at, line), signature, secret):
            with suppress(InvalidReplyError, ValueError):
                found.append(_to_announcement(int(sent_at), line))
    return found


def _to_announcement(sent_at: int, line: bytes) -> Announcement:
    key, tenant, client_id, change, kind, wait, lease = split_fields(line, _FIELDS_OF_A_LINE)
    view = ThrottleView(
        wait=_number(int(wait), _HOUR) / 1000,
        is_hold=kind == b"h",
        has_ended=change == b"e",
        lease_left=_number(int(lease), _MAX_NUMBER) / 1000,
    )
    name = _to_tenant(tenant)
    if not name:
        raise InvalidReplyError
    return Announcement(key.decode(), name, client_id.decode(), sent_at, view)


def _to_tenant(name: bytes) -> str:
    """Return the tenant that the store calls this; empty: this is not the name of one."""
    with suppress(UnicodeDecodeError):
        tenant = name.decode()
        if len(tenant) <= LONGEST_NAME:
            return tenant
    return ""


def _number(field: object, maximum: int) -> int:
    if type(field) is not int or not 0 <= field <= maximum:
        raise InvalidReplyError
    return field
