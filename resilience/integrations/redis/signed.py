"""What the scripts sign: fields in one line, and the signature that shows who has sent them."""

import hashlib
import hmac
import re
from typing import Final

from resilience.integrations.redis.protocol import InvalidReplyError

_LENGTH: Final = re.compile(rb"([0-9]{1,4}):")


def is_genuine(text: bytes, signature: bytes, secret: bytes) -> bool:
    """Return whether a text was signed with the secret of this store."""
    expected = hashlib.sha1(secret + text + secret, usedforsecurity=False).hexdigest()
    return hmac.compare_digest(expected.encode(), signature)


def split_fields(line: bytes, count: int) -> list[bytes]:
    """Take the fields of a line apart, each of which has its length in front.

    Raises:
        InvalidReplyError: It is not such a line, or has another number of fields.
    """
    fields: list[bytes] = []
    start = 0
    while start < len(line):
        length = _LENGTH.match(line, start)
        if length is None:
            raise InvalidReplyError
        start = length.end() + int(length[1])
        fields.append(line[length.end() : start])
    if start != len(line) or len(fields) != count:
        raise InvalidReplyError
    return fields
