"""The command line and one process: over its status page, on a port and on a local socket."""

import json
import os
import re
import signal
import subprocess

import pytest

from tests.integration.cli.conftest import WATCHDOG, command, environment

TOKEN = {"RESILIENCE_TOKEN": "a-token-for-tests"}


def test_status_shows_what_is_down_first(cli, worker):
    code, out, err = cli("status", "--url", worker.url)
    assert (code, err) == (0, "")
    first, *others = out.splitlines()
    assert re.fullmatch(
        r"OPEN +messages/us-east-1 +for \d+ s +TimeoutError; next probe in \d+ s", first
    )
    assert [line.split()[:2] for line in others] == [
        ["CLOSED", "messages/eu-west-1"],
        ["CLOSED", "tokens/eu-west-1"],
    ]


def test_status_over_a_local_socket_is_the_same(cli, worker):
    _, over_port, _ = cli("status", "--url", worker.url + "/", "--json")
    code, over_socket, err = cli("status", "--socket", worker.socket, "--json")
    assert (code, err) == (0, "")
    shown = [(one["registry"], one["region"], one["state"]) for one in json.loads(over_socket)]
    assert shown == [
        (one["registry"], one["region"], one["state"]) for one in json.loads(over_port)
    ]
    assert shown[0] == ("messages", "us-east-1", "OPEN")


def test_the_address_may_be_in_the_environment(cli, worker):
    assert cli("status", RESILIENCE_URL=worker.url)[0] == 0
    assert cli("status", RESILIENCE_SOCKET=worker.socket)[0] == 0


def test_history_tells_what_has_happened(cli, worker):
    code, out, err = cli("history", "--socket", worker.socket)
    assert (code, err) == (0, "")
    assert re.fullmatch(r"\S+  messages/us-east-1  CLOSED -> OPEN: TimeoutError", out.strip()), out
    (change,) = json.loads(cli("history", "--socket", worker.socket, "--json")[1])
    assert (change["region"], change["new"]) == ("us-east-1", "OPEN")


def test_a_circuit_that_only_observes_is_not_said_to_keep_calls_away(cli, observing_worker):
    where = ("--url", observing_worker.url)
    order = ("eu-west-1", "--registry", "tokens", "--reason", "moving")
    code, out, err = cli("force-open", *order, *where, **TOKEN)
    assert (code, err) == (0, "")
    assert out == (
        "eu-west-1 is held open until a reset; but its mode is not enforce, and it rejects nobody\n"
    )
    _, out, _ = cli("status", *where)
    assert re.search(r"OPEN +tokens/eu-west-1 .* moving; its mode is not enforce, and it", out)


def test_a_circuit_is_held_open_and_reset(cli, worker, tmp_path):
    where = ("--url", worker.url)
    code, out, err = cli(
        "force-open", "eu-west-1", "--registry", "tokens", "--reason", "moving", *where, **TOKEN
    )
    assert (code, out, err) == (0, "eu-west-1 is held open until a reset\n", "")
    _, out, _ = cli("status", *where)
    assert re.search(r"OPEN +tokens/eu-west-1 .* forced open: moving", out)
    file = tmp_path / "token"
    file.write_text("a-token-for-tests\n")
    for region, registry in (("eu-west-1", "tokens"), ("us-east-1", "messages")):
        options = ("--registry", registry, "--token-file", str(file))
        assert cli("reset", region, *options, *where) == (0, f"{region} is CLOSED\n", "")
    assert "OPEN" not in cli("status", *where)[1]
    _, out, _ = cli("history", *where)
    assert out.count("OPEN -> CLOSED: reset by hand") == 2


def test_watch_prints_each_change(cli, worker):
    watching = command("watch", "--socket", worker.socket, "--interval", "0.05")
    with subprocess.Popen(watching, env=environment(), stdout=-1, stderr=-1, text=True) as process:
        try:
            for _ in range(3):
                process.stdout.readline()
            cli("reset", "us-east-1", "--socket", worker.socket, **TOKEN)
            line = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=WATCHDOG)
        finally:
            process.kill()
    assert re.fullmatch(r"\S+  messages/us-east-1  OPEN -> CLOSED: recovered or reset\n", line)
    assert (process.returncode, err) == (130, "")


@pytest.mark.parametrize("variables", [{}, {"RESILIENCE_TOKEN": "a-token-that-is-wrong"}])
def test_without_the_token_nothing_is_changed(cli, worker, variables):
    code, out, err = cli("reset", "us-east-1", "--url", worker.url, **variables)
    assert (code, out) == (1, "")
    assert "refuses (401): You may not do this." in err
    assert "OPEN" in cli("status", "--url", worker.url)[1]


def test_a_page_without_actions_says_so(cli, read_only_worker):
    code, _, err = cli("reset", "us-east-1", "--url", read_only_worker.url, **TOKEN)
    assert code == 1
    assert "takes no actions: see actions= of status_page" in err


def test_a_region_that_is_not_there_is_not_made(cli, worker):
    where = ("--url", worker.url)
    code, _, err = cli("force-open", "eu-wset-1", "--reason", "x", *where, **TOKEN)
    assert code == 1
    assert "refuses (404): This process has no circuit of this name." in err
    code, _, err = cli("reset", "us-east-1", "--registry", "tokens", *where, **TOKEN)
    assert code == 1
    assert "eu-wset-1" not in cli("status", *where)[1]


def test_what_cannot_be_reached_is_one_line(cli, tmp_path):
    for where in (("--url", "http://127.0.0.1:9/"), ("--socket", str(tmp_path / "none"))):
        code, out, err = cli("status", *where)
        assert (code, out) == (1, "")
        assert re.fullmatch(r"resilience: cannot reach \S+: \w+Error\n", err), err


@pytest.mark.parametrize(
    "url", ["", "nonsense", "ftp://host/", "http://", "http://host:port/", "http://[/"]
)
def test_what_is_not_a_url_is_one_line(cli, url):
    code, _, err = cli("status", "--url", url)
    assert code == 1
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_exactly_one_place_is_needed(cli):
    for arguments in ([], ["--url", "http://localhost/", "--socket", "x"]):
        code, _, err = cli("status", *arguments)
        assert code == 1
        assert "give one of --redis, --url and --socket" in err


def test_wrong_usage_is_exit_code_2(cli):
    assert cli()[0] == 2
    assert cli("force-open", "eu-west-1", "--url", "http://localhost")[0] == 2
    for interval in ("0", "inf", "x"):
        assert cli("watch", "--interval", interval)[0] == 2
    code, out, _ = cli("--help")
    assert code == 0
    for name in ("status", "watch", "history", "force-open", "reset"):
        assert name in out


def test_a_token_file_that_is_not_there_is_one_line(cli, worker, tmp_path):
    missing = str(tmp_path / "none")
    code, _, err = cli("reset", "a", "--url", worker.url, "--token-file", missing)
    assert (code, err) == (1, "resilience: cannot read --token-file: FileNotFoundError\n")


def test_a_reader_that_has_seen_enough_is_no_error(worker):
    watching = command("watch", "--socket", worker.socket, "--interval", "0.01")
    reader, writer = os.pipe()
    with subprocess.Popen(watching, env=environment(), stdout=writer, stderr=-1) as process:
        os.close(writer)
        os.read(reader, 1)
        os.close(reader)
        _, err = process.communicate(
            subprocess.run(
                command("reset", "us-east-1", "--socket", worker.socket),
                env=environment(**TOKEN),
                check=True,
                stdout=subprocess.DEVNULL,
                timeout=WATCHDOG,
            ).stdout,
            timeout=WATCHDOG,
        )
    assert (process.returncode, err) == (0, b"")


def test_control_characters_do_not_reach_the_terminal(cli, worker):
    reason = "\x1b[31mred\nforged"
    arguments = ("force-open", "eu-west-1", "--registry", "tokens", "--reason", reason)
    cli(*arguments, "--url", worker.url, **TOKEN)
    _, out, _ = cli("status", "--url", worker.url)
    assert "\x1b" not in out
    assert len(out.splitlines()) == 3
