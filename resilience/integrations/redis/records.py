"""The records in the store: where they are, how one is asked for, and reading what it answers.

What comes from the store is not trusted: anything that script.lua would not say is no answer.
"""

import hashlib
import importlib.resources
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from resilience._text import one_line
from resilience.shared_circuit import View, Wish

SCRIPT: Final = (
    importlib.resources.files("resilience.integrations.redis")
    .joinpath("script.lua")
    .read_text(encoding="utf-8")
)
_FORMAT: Final = 1
_LATE: Final = 2
# What the script keeps of a text, in bytes.
_LONGEST: Final = 300
_LONGEST_KEY: Final = 100
_MOST: Final = 10**15
# A recovery timeout may be anything; the store counts no further than that.
_LONGEST_TIMEOUT: Final = 10**11


class BadAnswer(Exception):  # noqa: N818 - it is what the store said, no error of ours
    """The store said what the script never says."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the script said about one record.

    Args:
        view: For the circuit.
        bad: Whether something else stood where the record should be.
        late: Whether the change came too late to be made.
        store_time: The store's clock, in milliseconds.
    """

    view: View
    bad: bool
    late: bool
    store_time: int


@dataclass(frozen=True, slots=True)
class Records:
    """How this process asks for records.

    Args:
        prefix: Of every key.
        me: This process.
        who: How it is called in events and logs.
        lease: Seconds.
        quorum: Of how many processes an opening takes.
    """

    prefix: str
    me: str
    who: str
    lease: float
    quorum: int

    @property
    def channel(self) -> str:
        """Where hints are told."""
        return f"{{{self.prefix}}}:hints"

    def key(self, region: str) -> str:
        """Give the key of a region; the braces keep all keys in one slot of a cluster."""
        name = quote(region.encode("utf-8", "surrogatepass"), safe="")
        if len(name) > _LONGEST_KEY:
            name = f"{name[:_LONGEST_KEY]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return f"{{{self.prefix}}}:{_FORMAT}:{name}"

    def poll(self, keys: list[str]) -> tuple[list[str], list[str]]:
        """Read many records, and find out whether the store takes writes."""
        canary = f"{{{self.prefix}}}:canary:{self.me}"
        return [canary, *keys], ["poll", self.me, _ms(self.lease)]

    def read(self, keys: list[str]) -> tuple[list[str], list[str]]:
        """Read many records."""
        return keys, ["read", self.me, _ms(self.lease)]

    def change(
        self, key: str, wish: Wish, recovery_timeout: float, not_after: int
    ) -> tuple[list[str], list[str]]:
        """Change a record as wished, unless it is later than that by the store's clock."""
        counts = wish.change in ("take", "renew", "release")
        argument = str(wish.successes) if counts else _ms(wish.age)
        recovery = _ms(recovery_timeout)
        return [key], [
            wish.change, self.me, _ms(self.lease), self.channel, str(wish.version), recovery,
            str(self.quorum), argument, _short(self.who), _short(wish.why), str(not_after),
        ]  # fmt: skip


def parse_many(reply: Any, count: int, delay: float) -> list[Answer]:
    """Read what the script said to a poll or a read."""
    if not isinstance(reply, list) or len(reply) != count:
        raise BadAnswer
    return [parse(one, delay) for one in reply]


def parse(reply: Any, delay: float) -> Answer:
    """Read what the script said about one record."""
    if not isinstance(reply, list) or len(reply) != 13 or reply[0] != _FORMAT:  # noqa: PLR2004 - as the script says
        raise BadAnswer
    numbers, texts = [*reply[1:2], *reply[3:8], *reply[10:]], [reply[2], *reply[8:10]]
    if not all(type(number) is int and 0 <= number < _MOST for number in numbers):
        raise BadAnswer
    if not all(isinstance(text, bytes) and len(text) <= _LONGEST for text in texts):
        raise BadAnswer
    version, age, left, mine, successes, opener, done, bad, store_time = numbers
    state, who, why = (one_line(text.decode("utf-8", "replace")) for text in texts)
    if state not in ("", "C", "O", "H", "F"):
        raise BadAnswer
    view = View(
        version, state, age / 1000, left / 1000, bool(mine), successes, bool(opener), who, why,
        done == 1, delay,
    )  # fmt: skip
    return Answer(view, bool(bad), done == _LATE, store_time)


def _ms(seconds: float) -> str:
    return str(int(min(max(seconds * 1000, 0.0), float(_LONGEST_TIMEOUT))))


def _short(text: str) -> str:
    line = one_line(text).encode("utf-8", "replace")[:_LONGEST]
    return line.decode("utf-8", "ignore")
