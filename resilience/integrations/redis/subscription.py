"""SubscriptionReader: takes the stream of a subscription apart.

redis-py takes about 30 µs for each message, and keeps a message of any size in memory. With this,
the synchronizer of a process keeps pace with any number of messages that the store can send.
"""

import re
from typing import Final

import redis
from redis.exceptions import NoPermissionError

from resilience.integrations.redis.protocol import InvalidReplyError

# Longer messages are skipped, and so is their content before it has arrived completely.
_MAX_CONTENT: Final = 4_096
# Anything but the content of a message is shorter.
_MAX_FRAME: Final = 1_024
_END_OF_LINE: Final = b"\r\n"


class SubscriptionReader:
    """What the store sends to a connection with one subscription.

    Args:
        channel: The channel.

    Attributes:
        is_confirmed: Whether the store has confirmed the subscription.
        is_ping_answered: Whether the last PING was answered. An error is an answer, too: it shows
            that the connection lives.
    """

    def __init__(self, channel: str) -> None:
        self.is_confirmed = False
        self.is_ping_answered = True
        name = re.escape(b"$%d\r\n%s\r\n" % (len(channel.encode()), channel.encode()))
        self._frame = re.compile(
            rb"\*3\r\n\$7\r\nmessage\r\n" + name + rb"\$(?P<length>[0-9]{1,9})\r\n"
            rb"|(?P<pong>\*2\r\n\$4\r\npong\r\n\$0\r\n\r\n)"
            rb"|-(?P<error>[^\r\n]{0,900})\r\n"
            rb"|(?P<confirmation>\*3\r\n\$9\r\nsubscribe\r\n" + name + rb":[0-9]{1,9}\r\n)"
        )
        self._buffer = b""
        self._to_skip = 0  # bytes of a message that is too long

    def feed(self, data: bytes) -> list[bytes]:
        """Return the contents of the messages that are complete now.

        Args:
            data: The next bytes of the stream.

        Raises:
            InvalidReplyError: A store does not send this.
            redis.ResponseError: The subscription was refused.
        """
        contents: list[bytes] = []
        buffer, start = self._buffer + data, 0
        while True:
            start = self._skip(buffer, start)
            frame = self._frame.match(buffer, start)
            if frame is None:
                break
            if frame["length"] is None:
                self._note(frame)
                start = frame.end()
                continue
            length = int(frame["length"])
            end = frame.end() + length
            if length > _MAX_CONTENT:
                start, self._to_skip = frame.end(), length + len(_END_OF_LINE)
            elif end + len(_END_OF_LINE) <= len(buffer):
                contents.append(buffer[frame.end() : end])
                start = end + len(_END_OF_LINE)
            else:
                break
        self._buffer = buffer[start:]
        self._check_rest()
        return contents

    def _skip(self, buffer: bytes, start: int) -> int:
        """Return where the content that is to be skipped ends in the buffer."""
        skipped = min(self._to_skip, len(buffer) - start)
        self._to_skip -= skipped
        return start + skipped

    def _check_rest(self) -> None:
        """Check that what is left may be the beginning of something."""
        rest = self._buffer
        if rest[:1] not in b"*-" or len(rest) > _MAX_FRAME + _MAX_CONTENT:
            raise InvalidReplyError

    def _note(self, frame: re.Match[bytes]) -> None:
        """Note an answer to SUBSCRIBE or PING."""
        if frame["confirmation"]:
            self.is_confirmed = True
        elif self.is_confirmed:
            self.is_ping_answered = True
        elif frame["error"] is not None:
            raise _to_error(frame["error"].decode("utf-8", "replace"))
        else:
            raise InvalidReplyError


def _to_error(text: str) -> redis.ResponseError:
    """Return an error as redis-py would raise it."""
    code, _, meaning = text.partition(" ")
    return NoPermissionError(meaning) if code == "NOPERM" else redis.ResponseError(text)
