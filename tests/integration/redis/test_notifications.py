"""Notifications: what is believed of them, and a store that sends more than anybody can follow."""

import hashlib

import pytest
import redis

from resilience.integrations.redis.notification import newest
from resilience.integrations.redis.protocol import InvalidReplyError, RecordProtocol
from resilience.integrations.redis.subscription import SubscriptionReader

KEY, SECRET, NOW = "{p}:1:eu-west-1", b"5" * 32, 1_700_000_000_000
PROTOCOL = RecordProtocol("p", "a" * 16, "host/1", 5.0, 1)
FIELDS = {
    "f": "1", "v": str(NOW), "s": "O", "at": str(NOW - 1_500), "own": "", "beat": "0", "n": "0",
    "by": "b" * 16, "who": "host/2", "why": "E 503", "votes": "",
}  # fmt: skip


def line(**changed):
    return "".join(f"{len(value.encode())}:{value}" for value in (FIELDS | changed).values())


def signed(text, *, secret=SECRET, key=KEY, sent_at=NOW, version=NOW):
    """Return a notification as the script sends it."""
    body = secret + f"{sent_at} {key} {text}".encode() + secret
    return f"{version} {KEY}\n{sent_at} {hashlib.sha1(body).hexdigest()} {text}".encode()


def view_of(content, secret=SECRET):
    return newest([content])[KEY].view(PROTOCOL, secret, 0.25)


def test_a_signed_notification_is_followed():
    view = view_of(signed(line()))
    assert (view.version, view.state, view.age, view.delay) == (NOW, "O", 1.5, 0.25)
    assert (view.by, view.reason, view.opened_by_me) == ("host/2", "E 503", False)


def test_a_lease_in_a_notification_is_that_of_its_time():
    half = {"s": "H", "own": "a" * 16, "beat": str(NOW - 2_000)}
    view = view_of(signed(line(**half)))
    assert (view.lease_left, view.lease_is_mine) == (3.0, True)
    assert view_of(signed(line(**half | {"own": ""}))).lease_left == 0.0
    assert view_of(signed(line(**half | {"own": "c" * 16}))).lease_is_mine is False
    assert view_of(signed(line(**half | {"beat": str(NOW - 9_000)}))).lease_left == 0.0


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (f"{NOW} {KEY}".encode(), SECRET),
        (signed(line()), b""),
        (signed(line()), b"6" * 32),
        (signed(line(), secret=b"", sent_at=NOW), b""),
        (signed(line(), key="{p}:1:us-east-1"), SECRET),
        (signed(line()).replace(b"E 503", b"E 504"), SECRET),
        (signed(line()).replace(b"\n17", b"\n16"), SECRET),
        (signed(line())[:-5], SECRET),
    ],
    ids=["plain", "no secret", "another secret", "an empty secret", "another key", "changed",
         "another time", "torn"],
)  # fmt: skip
def test_any_other_notification_only_says_that_the_record_should_be_read(content, secret):
    assert newest([content])[KEY].version == NOW
    assert view_of(content, secret) is None


def test_an_older_notification_that_is_repeated_with_a_higher_version_hides_no_newer_one():
    genuine = signed(line(s="C"))
    repeated = signed(line(v=str(NOW - 1)), version=NOW + 1)
    chosen = newest([genuine, repeated])[KEY]
    assert chosen.version > NOW
    assert chosen.view(PROTOCOL, SECRET, 0.25) is None, "the record is read"


@pytest.mark.parametrize(
    "text",
    [
        "1:1",
        line() + "0:",
        line() + "x",
        line(v="x"),
        line(v=""),
        line(v="9" * 16),
        line(s="X"),
        line(at="-1"),
        line(n="1.5"),
        line(who="x" * 301),
        line()[:-2] + "9:",
        "99999:x",
    ],
)
def test_a_signature_makes_no_sense_of_fields_that_have_none(text):
    assert view_of(signed(text)) is None


@pytest.mark.parametrize("content", [b"", b"?", b"1", b"9" * 16 + b" key", b"1 " + b"k" * 501])
def test_what_is_no_notification_is_dropped(content):
    assert newest([content]) == {}


def test_the_newest_one_counts_and_among_equals_the_one_with_the_record():
    plain, full = f"{NOW} {KEY}".encode(), signed(line())
    older = f"{NOW - 1} {KEY}".encode()
    for contents in ([older, full, plain], [plain, full, older], [full, plain]):
        assert newest(contents)[KEY].signed is not None
    newer = f"{NOW + 1} {KEY}".encode()
    assert newest([newer, full])[KEY].version == NOW + 1


# The stream

CONFIRMATION = b"*3\r\n$9\r\nsubscribe\r\n$5\r\nhints\r\n:1\r\n"
PONG = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"


def message(content):
    return b"*3\r\n$7\r\nmessage\r\n$5\r\nhints\r\n$%d\r\n%s\r\n" % (len(content), content)


def reader():
    new = SubscriptionReader("hints")
    assert new.feed(CONFIRMATION) == []
    assert new.is_confirmed
    return new


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
def test_messages_are_found_however_the_stream_is_cut(size):
    contents = [b"", b"1 key", b"\r\n*3\r\n", b"x" * 4_096, b"x" * 4_097, b"x" * 100_000, b"end"]
    stream = b"".join(map(message, contents)) + PONG
    one, found = reader(), []
    one.is_ping_answered = False
    for start in range(0, len(stream), size):
        found += one.feed(stream[start : start + size])
        assert len(one._buffer) < 6_000, "memory is bounded"
    assert found == [content for content in contents if len(content) <= 4_096]
    assert one.is_ping_answered


def test_an_error_answers_a_ping():
    one = reader()
    one.is_ping_answered = False
    assert one.feed(b"-NOPERM User x has no permissions to run the 'ping' command\r\n") == []
    assert one.is_ping_answered


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (b"-NOPERM no permission\r\n", redis.exceptions.NoPermissionError, "^no permission"),
        (b"-ERR unknown command\r\n", redis.ResponseError, "ERR unknown command"),
    ],
)
def test_an_error_refuses_a_subscription(answer, error, text):
    with pytest.raises(error, match=text):
        SubscriptionReader("hints").feed(answer)


@pytest.mark.parametrize(
    "data",
    [
        b"+OK\r\n",
        b"$999999999999\r\n",
        PONG,
        CONFIRMATION + b"?",
        CONFIRMATION + message(b"x") + b"HTTP/1.1 400 Bad Request\r\n",
        CONFIRMATION + b"*" + b"x" * 6_000,
        CONFIRMATION + b"*3\r\n$7\r\nmessage\r\n$5\r\nhints\r\n$9999999999\r\n" + b"x" * 6_000,
    ],
)
def test_what_no_store_sends_is_an_invalid_reply(data):
    with pytest.raises(InvalidReplyError):
        SubscriptionReader("hints").feed(data)
