"""The command line from inside: what a process cannot be made to show."""

import argparse
import io
import runpy
import sys

import pytest

from resilience.__main__ import main
from resilience.cli import commands
from resilience.cli.page_target import page_at_url
from resilience.cli.target import CircuitLine, TargetError
from resilience.integrations.redis import Fleet
from resilience.integrations.redis.protocol import InvalidReplyError
from resilience.testing import FakeGenesys


def line(region, state, seconds=1.0, note="", registry=""):
    return CircuitLine(
        registry=registry, region=region, state=state, seconds_in_state=seconds, note=note
    )


class Scripted:
    """A target that shows one list of circuits after the other."""

    def __init__(self, *looks):
        self.looks = list(looks)

    def circuits(self):
        if not self.looks:
            raise KeyboardInterrupt
        return self.looks.pop(0)


def test_watch_prints_changes_and_new_circuits_that_are_not_closed(monkeypatch, capsys):
    slept = []
    monkeypatch.setattr(commands.time, "sleep", slept.append)
    target = Scripted(
        [line("a", "CLOSED"), line("b", "OPEN")],
        [line("a", "OPEN", note="TimeoutError"), line("b", "OPEN"), line("c", "CLOSED")],
        [line("a", "CLOSED"), line("d", "HALF_OPEN", note="waiting", registry="r")],
    )
    with pytest.raises(KeyboardInterrupt):
        commands._watch(argparse.Namespace(interval=7.0), target)
    printed = capsys.readouterr().out.splitlines()
    assert [text.partition("  ")[2] for text in printed[2:]] == [
        "a  CLOSED -> OPEN: TimeoutError",
        "a  OPEN -> CLOSED: recovered or reset",
        "r/d  CLOSED -> HALF_OPEN: waiting",
    ]
    assert slept == [7.0] * 3


def test_durations_are_short():
    seconds = (-1, 0.9, 59.9, 60, 3599, 3600, 90_061)
    assert [commands._duration(one) for one in seconds] == [
        "0 s", "0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "25 h 1 min",
    ]  # fmt: skip


def test_an_interval_is_a_number_of_seconds():
    assert commands._seconds("0.5") == 0.5
    for wrong in ("0", "-1", "inf", "nan", "x"):
        with pytest.raises(ValueError, match=r"^$|could not convert"):
            commands._seconds(wrong)


def test_an_output_that_is_closed_ends_it(monkeypatch):
    def closed(*_args, **_kwargs):
        raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(commands, "_target", closed)
    assert main(["status", "--url", "http://localhost/"]) == 0
    assert sys.stderr.closed


def test_ctrl_c_is_exit_code_130(monkeypatch):
    def interrupt(_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "_target", interrupt)
    assert main(["watch", "--url", "http://localhost/"]) == 130


def test_it_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["resilience", "--help"])
    with pytest.raises(SystemExit), pytest.warns(RuntimeWarning, match="found in sys.modules"):
        runpy.run_module("resilience", run_name="__main__")
    assert "force-open" in capsys.readouterr().out


def test_without_redis_py_it_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "resilience.cli.store_target", raising=False)
    assert main(["status", "--redis", "redis://localhost"]) == 1
    assert 'pip install "region-breaker[redis]"' in capsys.readouterr().err


def test_a_store_with_odd_replies_is_one_line(monkeypatch, capsys):
    class Odd:
        def __init__(self, *_args, **_kwargs):
            raise InvalidReplyError

    monkeypatch.setattr("resilience.cli.store_target.Fleet", Odd)
    assert Odd is not Fleet
    assert main(["status", "--redis", "redis://localhost"]) == 1
    assert "the store has replied what it never replies" in capsys.readouterr().err


# Pages that are not one

CIRCUIT = {
    "registry": "",
    "region": "a\x1b",
    "state": "HALF_OPEN",
    "seconds_in_state": 1,
    "reason": "TimeoutError",
    "retry_after": 0,
    "forced": False,
}


@pytest.fixture
def server():
    with FakeGenesys() as server:
        yield server


def serve(server, answer):
    server.add_route("GET", "/api/circuits", answer, require_token=False)
    return page_at_url(server.url, "")


@pytest.mark.parametrize(
    "answer", ["text", [], {}, {"regions": []}, {"regions": None, "history": []}]
)
def test_what_is_not_a_page_is_one_line(server, answer):
    with pytest.raises(TargetError, match=r"http://127\.0\.0\.1:\d+ is not a status page"):
        serve(server, answer).circuits()


def test_what_is_not_json_is_not_a_page(server):
    server.garbage()
    with pytest.raises(TargetError, match=r"cannot reach .*: BadStatusLine"):
        page_at_url(server.url, "").circuits()


def test_a_server_that_refuses_is_quoted_in_one_line(server):
    server.fail(503)
    with pytest.raises(TargetError, match=r"refuses \(503\): \{"):
        page_at_url(server.url, "").circuits()


def test_a_half_open_circuit_waits_or_is_probed(server):
    target = serve(server, {"regions": [CIRCUIT, CIRCUIT | {"retry_after": 1}], "history": []})
    waiting, probed = target.circuits()
    assert waiting.note == "TimeoutError; waiting for a call"
    assert probed.note == "TimeoutError; a probe is under way"
    assert waiting.region == "a\\x1b"


def test_a_change_names_the_process_that_has_caused_it(server):
    change = {"time": "t", "registry": "r", "region": "a", "old": "OPEN", "new": "CLOSED"}
    target = serve(server, {"regions": [], "history": [change | {"reason": "x", "by": "b"}]})
    assert [one.reason for one in target.history()] == ["x, by b"]


def test_no_change_is_one_line(server, capsys):
    serve(server, {"regions": [], "history": []})
    assert main(["history", "--url", server.url]) == 0
    assert capsys.readouterr().out == "no change of state is known\n"
