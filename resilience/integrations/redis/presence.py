"""Presence: with which other processes this one shares its circuits.

Processes whose address and prefix are the same share, also where nobody meant them to, as staging
and production. Therefore the first contact with the store logs who the others are.
"""

import time
from typing import Final

import redis

from resilience._text import one_line
from resilience.integrations.redis.connection import CommandConnection
from resilience.integrations.redis.fault import describe_fault
from resilience.integrations.redis.protocol import RecordProtocol, Request
from resilience.integrations.redis.scripts import read_script
from resilience.log import log

_SCRIPT: Final = read_script("common.lua", "presence.lua")
# Seconds, and polls, without a sign of life until a process counts as gone.
_LEAST_LIFETIME: Final = 60.0
_POLLS_PER_LIFETIME: Final = 4
_SIGNS_PER_LIFETIME: Final = 3
_MOST_NAMES: Final = 10
_MOST_BYTES: Final = 400
_ANSWER_LENGTH: Final = 2


class Presence:
    """Shows this process to the others, and logs once who they are.

    Args:
        protocol: Identifies this process.
        poll_interval: Seconds between two polls, on average.
    """

    def __init__(self, protocol: RecordProtocol, poll_interval: float) -> None:
        self._protocol = protocol
        self._lifetime = max(_LEAST_LIFETIME, _POLLS_PER_LIFETIME * poll_interval)
        self._shown_at: float | None = None
        self._is_logged = False

    def show(self, commands: CommandConnection, where: str) -> None:
        """Give a sign of life, if the last one is some time ago.

        Args:
            commands: The connection to the store.
            where: What the log calls the store.
        """
        now = time.monotonic()
        wait = self._lifetime / _SIGNS_PER_LIFETIME
        if self._shown_at is not None and now - self._shown_at < wait:
            return
        self._shown_at = now
        others = self._find_others(commands)
        if not self._is_logged:
            self._is_logged = True
            quorum, prefix = self._protocol.quorum, self._protocol.prefix
            text = (
                f"is shared through {where}, prefix {prefix!r} and quorum {quorum}, with {others}"
            )
            log("INFO", "", text)

    def leave(self, commands: CommandConnection) -> None:
        """Let the others see no more of this process."""
        self._find_others(commands, ends=True)

    def _find_others(self, commands: CommandConnection, *, ends: bool = False) -> str:
        """Describe the other processes."""
        member = f"{self._protocol.client_id} {self._protocol.client_name}"
        numbers = (int(self._lifetime * 1000), int(ends), _MOST_NAMES, _MOST_BYTES)
        arguments = [member, *(str(number) for number in numbers)]
        try:
            answer = commands.run(Request([self._protocol.processes_key], arguments, _SCRIPT))
        except redis.ResponseError as error:  # a user without the right to: it is only for the log
            return f"other processes, of which nothing is known: {describe_fault(error).text}"
        return self._describe(answer)

    def _describe(self, answer: object) -> str:
        is_known = isinstance(answer, list) and len(answer) == _ANSWER_LENGTH
        count, members = answer if isinstance(answer, list) and is_known else (None, None)
        if not isinstance(count, int) or not isinstance(members, list):
            return "other processes, of which nothing is known"
        names = [name for member in members if (name := self._name_of_other(member))]
        others = count - 1
        if others <= 0:
            return "no other process yet"
        shown = names[:_MOST_NAMES]
        rest = f" and {others - len(shown):,} more" if others > len(shown) else ""
        processes = "process" if others == 1 else "processes"
        return f"{others:,} other {processes}: {', '.join(shown)}{rest}"

    def _name_of_other(self, member: object) -> str:
        """Return the name of another process; empty for this one, and for what is malformed."""
        if not isinstance(member, bytes) or len(member) > _MOST_BYTES:
            return ""
        client_id, _, name = member.decode("utf-8", "replace").partition(" ")
        return "" if client_id == self._protocol.client_id else one_line(name)
