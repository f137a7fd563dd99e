"""Each example runs by itself, as a user runs it, and tells the story that it promises."""

import dataclasses
import importlib.util
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path
from unittest.mock import Mock

import pytest

import resilience
from resilience import CircuitState
from tests.support.needs import needs

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WATCHDOG = 100  # seconds; the longest example gives up after 30

STORIES = {
    "quickstart": [
        "eu-central-1: hello delivered\n",
        "eu-central-1 goes down.\n",
        "log: ERROR Circuit breaker OPEN for region eu-central-1 after 10 failures: TimeoutError",
        "call 10: timed out",
        "call 11: rejected, retry after 60 s",
        "call 12: rejected, retry after 60 s",
        "eu-west-1: hello delivered",
        "60 seconds later eu-central-1 is up again.",
        "log: INFO Circuit breaker rejected 2 calls for region eu-central-1 in 60 s\n",
        "log: WARNING Circuit breaker HALF_OPEN for region eu-central-1: recovery timeout",
        "log: INFO Circuit breaker CLOSED for region eu-central-1 — recovered",
        "4 calls succeeded, 10 failed, 2 were rejected",
    ],
    "retry_stack": [
        "breaker outside               call 10        50      10        10          10      1",
        "... over transient_retry      call 10        50      10        10          10      1",
        "... counting per attempt       call 2        10       2        18          18      1",
        "retry outside                  call 2        10       2        18          18      1",
        "... and retries any error      call 2        10       2        18          90      1",
        "short faults  failures counted in 20 calls that each succeeded at the second attempt\n",
    ],
    "genesys_worker": [
        "a normal day: one request for a token, one for the message\n",
        "INFO     delivered\n",
        "a revoked token: a 401, a new token and a second request, in one attempt\n",
        "INFO     the token is no longer valid, fetching a new one\n",
        "INFO     delivered\n",
        "over the rate limit: the client waits, and the circuit does not count it\n",
        "WARNING  attempt 1 failed: ClientResponseError 429; next in 1",
        "INFO     delivered\n",
        "a short fault: the second attempt succeeds, and the circuit does not count it\n",
        "WARNING  attempt 1 failed: ClientResponseError 503; next in 0.01 s\n",
        "INFO     delivered\n",
        "an outage: ten calls fail",
        "ERROR    Circuit breaker OPEN for region eu-west-1 after 10 failures",
        "INFO     back to the queue: circuit breaker for region 'eu-west-1' is OPEN",
        "requests opened the circuit; the eleventh call made none\n",
    ],
    "rabbitmq_worker": [
        "100 messages in one queue, half of them for eu-west-1, which is down\n",
        "ERROR    Circuit breaker OPEN for region eu-west-1 after 10 failures",
        "us-east-1: 50 of 50 delivered without waiting\n",
        "requests failed, 50 messages wait\n",
        "eu-west-1 is back up; the worker has to find out\n",
        "INFO     Circuit breaker CLOSED for region eu-west-1 — recovered",
        "100 messages: 100 delivered, 0 twice, 0 left over\n",
    ],
    "custom_classifier": [
        "failures(ServerGone):\n    by default: CLOSED\n    customized: OPEN",
        "with 4xx as a SUCCESS:\n    by default: OPEN\n    customized: CLOSED",
        "result_classifier=classify_status:\n    by default: CLOSED\n    customized: OPEN",
    ],
    "shared_redis": [
        "the region goes down\n",
        "HALF_OPEN: recovery timeout of 2 s elapsed\n",
        "the region is back up\n",
        "requests to the region during the outage: ",
        "probes by all four processes: ",
    ],
    "sync_code": [
        "   0 s  report 1 failed\n" * 3,
        "   0 s  OPEN: waiting for 60 s",
        "  60 s  report 1 failed\n",
        "  60 s  OPEN: waiting for 60 s\n",
        " 120 s  report 1 uploaded, circuit HALF_OPEN\n",
        " 120 s  report 3 uploaded, circuit CLOSED",
        " 120 s  report 10 uploaded, circuit CLOSED\n",
        "requests by second: {0.0: 3, 60.0: 1, 120.0: 10}",
        "the decorated function uploads one more, to https://api.mypurecloud.com.au\n",
    ],
    "your_own_tests": ["4 passed"],
    "status_page": [
        "The status page is at http://127.0.0.1:",
        " answers 503\n",
        "ERROR   Circuit breaker OPEN for region ",
        "after 5 failures: ClientResponseError 503\n",
        " is back up\n",
        "INFO    Circuit breaker CLOSED for region ",
        " has taken ",
        *(f"{region} is CLOSED: " for region in ("us-east-1", "us-west-2", "eu-west-1")),
        *(f"{region} is CLOSED: " for region in ("eu-central-1", "ap-south-1", "ap-northeast-1")),
        "Stopped\n",
    ],
    "web_service": [
        "both regions are up\n",
        "/eu-west-1/users/7       200 {'name': 'Ann'}\n",
        "/eu-central-1/users/7    200 {'name': 'Ann'}\n",
        "eu-west-1 goes down",
        "/eu-west-1/users/7       502 {'detail': 'the region has failed'}\n",
        "/eu-west-1/users/7       502 {'detail': 'the region has failed'}\n",
        "/eu-west-1/users/7       503 {'detail': 'upstream is unavailable'}, Retry-After: 60\n",
        "/eu-central-1/users/7    200 {'name': 'Ann'}\n",
        "/ready                   200 {'ready': True}\n",
        "says     {'eu-west-1': 'OPEN', 'eu-central-1': 'CLOSED'}\n",
        "60 seconds later eu-west-1 is back up",
        *["/eu-west-1/users/7       200 {'name': 'Ann'}\n"] * 3,
        "says     {'eu-west-1': 'CLOSED', 'eu-central-1': 'CLOSED'}\n",
    ],
    "two_circuits": [
        "one circuit for both hosts:\n",
        "both hosts are up            old tenant: delivered\n",
        "later rejected by eu-west-1\n",
        "token requests: 11, one succeeded\n",
        "old tenant: rejected by eu-west-1\n",
        "new tenants: delivered, delivered, delivered\n",
        "a circuit for each host:\n",
        "later rejected by login.eu-west-1\n",
        "token requests: 11, one succeeded\n",
        "old tenant: delivered\n",
        "new tenants: delivered, delivered, delivered\n",
    ],
}
ARGUMENTS = {"status_page": ["1"]}  # it would run until stopped
DEMO = "outage"


def command(name):
    return [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *ARGUMENTS.get(name, ())]


def environment():
    """Let the example import the package under test, and nothing colour what is no terminal."""
    unwanted = {"FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    root = str(Path(resilience.__file__).parent.parent)
    return {**kept, "PYTHONPATH": root, "PYTHONUTF8": "1", "TERM": "xterm-256color"}


def run(name, folder):
    return subprocess.run(
        command(name),
        cwd=folder,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=WATCHDOG,
        check=False,
    )


# What several processes write at the same time: each line, and how often it comes.
ANY_ORDER = {
    "shared_redis": {
        "OPEN: ClientResponseError 503, by busy\n": 3,
        "CLOSED: 3 consecutive successes\n": 1,
        "CLOSED: recovered, by ": 3,
    },
}


def in_order(lines, text):
    """Find each line after the one before it; give the first that is missing."""
    at = 0
    for line in lines:
        at = text.find(line, at)
        if at < 0:
            return line
        at += len(line)
    return None


def test_every_example_has_its_story_here_and_its_line_in_the_readme():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {*STORIES, DEMO}
    listed = re.findall(
        r"^\| \[(\w+)\.py\]\((\w+)\.py\)", (EXAMPLES / "README.md").read_text(), re.MULTILINE
    )
    assert sorted(listed) == sorted((name, name) for name in names)


@pytest.mark.parametrize("name", STORIES)
def test_runs_by_itself_and_prints_its_story(name, tmp_path):
    if name == "rabbitmq_worker":
        needs("rabbitmq-server")
    done = run(name, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    missing = in_order(STORIES[name], done.stdout)
    assert missing is None, f"not in its place: {missing}\n{done.stdout}"
    # Which of several processes writes its line first is for the machine to say.
    for line, times in ANY_ORDER.get(name, {}).items():
        assert done.stdout.count(line) == times, f"{line}\n{done.stdout}"


def test_the_example_that_needs_a_broker_says_so_where_there_is_none(tmp_path):
    script = (EXAMPLES / "rabbitmq_worker.py").read_text(encoding="utf-8")
    elsewhere = tmp_path / "rabbitmq_worker.py"
    elsewhere.write_text(script.replace("/usr/lib/rabbitmq", str(tmp_path)), encoding="utf-8")
    environment_without = {k: v for k, v in environment().items() if k != "AMQP_URL"}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(elsewhere)],
        env=environment_without,
        capture_output=True,
        encoding="utf-8",
        timeout=WATCHDOG,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "apt-get install rabbitmq-server" in done.stdout


# The demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the demo through a pipe and in a terminal, at the same time."""
    folder = tmp_path_factory.mktemp("demo")
    terminal, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    shared = {"cwd": folder, "env": environment()}
    with (
        subprocess.Popen(
            command(DEMO), stdin=theirs, stdout=theirs, stderr=theirs, **shared
        ) as live,
        subprocess.Popen(command(DEMO), stdout=-1, stderr=-1, encoding="utf-8", **shared) as piped,
    ):
        os.close(theirs)
        try:
            shown = read_terminal(terminal)
            out, err = piped.communicate(timeout=WATCHDOG)
            return (piped.returncode, out, err), (live.wait(timeout=WATCHDOG), shown)
        finally:
            os.close(terminal)
            live.kill()
            piped.kill()


def read_terminal(terminal):
    """Read until nobody has the other end any more, which Linux reports as an error."""
    parts = []
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode()


def test_the_demo_prints_plain_lines_into_a_pipe(demo):
    (code, out, err), _ = demo
    assert code == 0, out + err
    assert err == ""
    assert "\x1b" not in out
    log = "Circuit breaker"
    story = [
        "Recovery timeout 2 s (default: 60 s)",
        "the status page is at http://127.0.0.1:",
        "PHASE    both regions are up",
        "PHASE    us-east-1 goes down: it answers 503",
        f"ERROR    {log} OPEN for region us-east-1 after 10 failures: ClientResponseError 503",
        f"WARNING  {log} HALF_OPEN for region us-east-1: recovery timeout of 2 s elapsed",
        (
            f"ERROR    {log} OPEN for region us-east-1 after 11 failures: ClientResponseError 503"
            " (probe failed)"
        ),
        "PHASE    us-east-1 is back up; its circuit has to find out",
        f"INFO     {log} CLOSED for region us-east-1 — recovered",
        "PHASE    both regions are up; the workers drain the backlog",
        "phase",
        "both up",
        "one down",
        "back up",
        "recovered",
        "us-east-1: 0 requests started while OPEN",
        "All 10 claims are true.",
    ]
    missing = in_order(story, out)
    assert missing is None, f"not in its place: {missing}\n{out}"
    assert "region eu-west-1" not in out, "the circuit of the healthy region has nothing to log"


def test_the_demo_counts_each_phase_and_region(demo):
    (_, out, _), _ = demo
    rows = re.findall(r"(?:eu-west|us-east)-1 +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +(-|\d+ µs)", out)
    assert len(rows) == 4 * 2
    for row in rows:
        sent, delivered, rejected, failed = map(int, row[:4])
        assert sent == delivered + rejected + failed
        assert (rejected == 0) == (row[5] == "-")
    healthy, failing = rows[0::2], rows[1::2]
    assert [row[2] for row in healthy] == ["0"] * 4
    assert int(failing[1][2]) > 0


def test_the_demo_has_a_live_screen_in_a_terminal(demo):
    _, (code, shown) = demo
    assert code == 0, shown
    assert shown.count("╭") >= 2 * 10, "the two regions, frame after frame"
    assert "OPEN" in shown
    assert "probe in" in shown
    assert "All 10 claims are true." in shown


@pytest.fixture(scope="module")
def outage():
    spec = importlib.util.spec_from_file_location("outage", EXAMPLES / "outage.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["outage"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["outage"]


@pytest.fixture
def facts(outage):
    """What a demo sees that goes as it should: the healthy region, the failing one."""
    closed, opened, half_open = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
    healthy = outage.Facts(
        region="eu-west-1",
        path=(closed,),
        trips=0,
        probes=0,
        rejected=0,
        rejected_by_circuit=0,
        produced=100,
        delivered=100,
        duplicates=0,
        requests_started=100,
        requests_received=100,
        on_the_wire=0,
        started_while_open=0,
        started_while_half_open=0,
    )
    failing = dataclasses.replace(
        healthy,
        region="us-east-1",
        path=(closed, opened, half_open, closed),
        trips=1,
        probes=3,
        rejected=50,
        rejected_by_circuit=50,
        requests_started=130,
        requests_received=130,
        on_the_wire=4,
        started_while_half_open=3,
    )
    return healthy, failing


def test_the_demo_succeeds_when_all_its_claims_are_true(outage, facts, capsys):
    assert outage.conclude(outage.check(*facts, seconds=12.0)) == 0
    assert "FALSE" not in capsys.readouterr().out


STAYED_OPEN = (CircuitState.CLOSED, CircuitState.OPEN)


@pytest.mark.parametrize(
    ("which", "wrong"),
    [
        ("failing", {"started_while_open": 1}),
        ("failing", {"path": STAYED_OPEN}),
        ("failing", {"trips": 0, "path": (CircuitState.CLOSED,)}),
        ("failing", {"trips": 2}),
        ("failing", {"started_while_half_open": 4}),
        ("failing", {"probes": 0, "started_while_half_open": 0}),
        ("failing", {"rejected": 49}),
        ("failing", {"rejected": 0, "rejected_by_circuit": 0}),
        ("failing", {"delivered": 99}),
        ("failing", {"duplicates": 1}),
        ("failing", {"requests_received": 131}),
        ("healthy", {"delivered": 99}),
        ("healthy", {"produced": 0, "delivered": 0}),
        ("healthy", {"duplicates": 1}),
        ("healthy", {"requests_received": 99}),
        ("healthy", {"path": (*STAYED_OPEN, CircuitState.HALF_OPEN, CircuitState.CLOSED)}),
        ("healthy", {"rejected": 1}),
    ],
)
def test_the_demo_fails_when_a_claim_is_false(outage, facts, capsys, which, wrong):
    seen = dict(zip(("healthy", "failing"), facts, strict=True))
    seen[which] = dataclasses.replace(seen[which], **wrong)
    assert outage.conclude(outage.check(**seen, seconds=12.0)) == 1
    printed = capsys.readouterr()
    assert re.findall(r"^FALSE ([\w-]+):", printed.out, re.MULTILINE) == [seen[which].region]
    assert "error: 1 of 10 claims are false" in printed.err


def test_the_demo_fails_when_it_takes_too_long(outage, facts, capsys):
    assert outage.conclude(outage.check(*facts, seconds=30.1)) == 1
    assert "FALSE the demo took 30.1 s, at most 30 s" in capsys.readouterr().out


def test_a_false_claim_is_the_exit_code_of_the_demo(outage, facts, monkeypatch):
    healthy, failing = facts
    seen = [healthy, dataclasses.replace(failing, started_while_open=1)]

    async def play(*_, **__):
        return seen

    monkeypatch.setattr(outage, "logger", Mock())  # the log of the other tests stays as it is
    monkeypatch.setattr(outage, "play", play)
    monkeypatch.setattr(outage, "numbers", lambda _: "")
    monkeypatch.setattr(outage, "gather", lambda region: region)
    assert outage.main() == 1


def test_requests_are_counted_by_the_state_in_which_they_started(outage):
    region = outage.Region("test_requests", Mock(requests=0, messages=[]), Mock())
    for state, started, received in [
        (CircuitState.CLOSED, 0, 0),
        (CircuitState.OPEN, 30, 28),  # 2 are on the wire
        (CircuitState.HALF_OPEN, 30, 30),
        (CircuitState.OPEN, 31, 31),  # the probe
        (CircuitState.HALF_OPEN, 34, 36),  # 3 that the workers started, and 2 that they did not
        (CircuitState.CLOSED, 37, 39),
        (CircuitState.CLOSED, 50, 52),  # the end
    ]:
        region.started, region.server.requests = started, received
        region.record_change(state)
    facts = outage.gather(region)
    assert (facts.on_the_wire, facts.started_while_open, facts.started_while_half_open) == (2, 5, 4)
    assert len(facts.path) == 6
