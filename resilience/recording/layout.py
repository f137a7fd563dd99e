"""The layout of a recording: a header, and then words of 8 bytes, little-endian.

A word is one outcome or one rejected call, in the order in which the circuit has counted them:

    bits  0- 3   the kind
    bits  4-13   the number of the region in the table of regions
    bits 14-21   how many words of its region were written while the call ran; 255: see MANY
    bits 22-38   how long the call ran, in microseconds: a power of ten of 3 bits, times 14 bits
    bits 39-63   microseconds since the last anchor

An ANCHOR word holds an absolute time instead. Others belong to the outcome that follows: MANY
says how many words were written while the call ran if those were 255 or more, and BEGAN says to the
microsecond when it began, and in which order among the calls that began between the same two words,
where the circuit has looked at that. After a failed attempt, EARLIER says how many words before the
one that follows the attempt was recorded, and COUNTED that the failure which follows is that of the
attempt, and was counted with it. A NOTE word says how many bytes of JSON follow it,
filled up with zeros to whole words: the name of a region, which makes the table of regions, its
policy, and what else happens rarely.
"""

import json
import struct
from enum import IntEnum
from typing import Final, NamedTuple

MAGIC: Final = b"resil-rc"
VERSION: Final = 1
WORD: Final = 8  # bytes
MICROSECOND: Final = 1_000_000  # of them in a second

MOST_REGIONS: Final = 1 << 10
MANY_WORDS: Final = (1 << 8) - 1
LONGEST_NOTE: Final = 1 << 16  # bytes
# From here on, an anchor is needed.
ANCHOR_REACH: Final = 1 << 25

_MANTISSAS = 1 << 14
_MOST_TENS = 7
_TIME_BITS = 53
_TIME_OFFSET = 1 << (_TIME_BITS - 1)  # a clock may show less than zero
_MOST_ORDER = (1 << 7) - 1


class Kind(IntEnum):
    """The kinds of words."""

    SUCCESS = 0
    FAILURE = 1
    ANSWERED = 2
    IGNORED = 3
    ABANDONED = 4  # IGNORED, and the policy counts abandoned calls
    ATTEMPT = 5  # a failure, after which the call goes on
    REJECTED = 6
    UNFINISHED = 7  # the recording ended before the call
    ANCHOR = 8
    NOTE = 9
    MANY = 10
    BEGAN = 11
    EARLIER = 12
    COUNTED = 13


class Header(NamedTuple):
    """What a file begins with.

    Args:
        recording: A number by which the two files of one recording know each other.
        part: The number of this file in its recording, from 0 on.
        clock_to_time: What must be added to the clock's seconds for seconds since 1970.
    """

    recording: int
    part: int
    clock_to_time: float


_HEADER = struct.Struct("<8sHHIQd")
HEADER_SIZE: Final = _HEADER.size


def pack_header(header: Header) -> bytes:
    """Return a header as bytes."""
    return _HEADER.pack(
        MAGIC, VERSION, HEADER_SIZE, header.part, header.recording, header.clock_to_time
    )


def unpack_header(data: bytes) -> Header:
    """Return the header that a file begins with.

    Raises:
        ValueError: It is not that of a recording, or of another version.
    """
    if len(data) < HEADER_SIZE or not data.startswith(MAGIC):
        raise ValueError("it does not begin as a recording does")
    _, version, size, part, recording, clock_to_time = _HEADER.unpack_from(data)
    if version != VERSION or size != HEADER_SIZE:
        raise ValueError(f"it has version {version}, and this is version {VERSION}")
    if not abs(clock_to_time) < _TIME_OFFSET / MICROSECOND:
        raise ValueError("its time of day is not a time")
    return Header(recording, part, clock_to_time)


def to_microseconds(seconds: float) -> int:
    """Return a time or duration in whole microseconds."""
    return round(seconds * MICROSECOND)


def pack_outcome(kind: Kind, region: int, words: int, duration: int, time: int) -> int:
    """Return the word of an outcome.

    Args:
        kind: One of those before ANCHOR.
        region: The number of its region.
        words: How many words of its region were written while the call ran.
        duration: How long it ran, in microseconds.
        time: Microseconds since the last anchor.
    """
    number, tens = max(0, duration), 0
    while number >= _MANTISSAS and tens < _MOST_TENS:
        tens += 1
        number = duration // 10**tens  # rounded down: one that is shorter than a limit stays so
    number = min(number, _MANTISSAS - 1)
    return (
        kind | region << 4 | min(words, MANY_WORDS) << 14 | tens << 22 | number << 25 | time << 39
    )


def duration_of(word: int) -> int:
    """Return how long the call of a word ran, in microseconds."""
    number: int = (word >> 25) & 0x3FFF
    tens: int = (word >> 22) & 0x7
    return number * _POWERS[tens]


_POWERS: Final[tuple[int, ...]] = tuple(int(10**tens) for tens in range(_MOST_TENS + 1))


def words_while(word: int) -> int:
    """Return how many words of its region were written while the call of a word ran."""
    return (word >> 14) & 0xFF


def pack_count(kind: Kind, words: int) -> int:
    """Return the word of a number of words: MANY, or EARLIER; COUNTED has none."""
    return kind | words << 4


def pack_time(kind: Kind, time: int, order: int = 0) -> int:
    """Return the word of an absolute time: an ANCHOR, or BEGAN.

    Args:
        kind: Which of the two.
        time: The time, in microseconds.
        order: How many calls began before this one at the same place among the words.
    """
    return kind | (time + _TIME_OFFSET) << 4 | min(order, _MOST_ORDER) << (_TIME_BITS + 4)


def unpack_time(word: int) -> tuple[int, int]:
    """Return the absolute time of such a word, in microseconds, and the order."""
    time = (word >> 4) & ((1 << _TIME_BITS) - 1)
    return time - _TIME_OFFSET, word >> (_TIME_BITS + 4)


def is_time(time: int) -> bool:
    """Whether a time in microseconds fits into a word."""
    return -_TIME_OFFSET <= time < _TIME_OFFSET


def pack_note(region: int, note: dict[str, object]) -> bytes:
    """Return a note about a region: its word, and the text that follows it."""
    text = json.dumps(note, separators=(",", ":")).encode()
    padding = -len(text) % WORD
    word: int = Kind.NOTE | region << 4 | len(text) << 14
    return word.to_bytes(WORD, "little") + text + bytes(padding)


def region_of(word: int) -> int:
    """Return the number of the region of a word or note."""
    return (word >> 4) & (MOST_REGIONS - 1)


def note_size(word: int) -> int:
    """Return how many bytes of text follow the word of a note."""
    return word >> 14
