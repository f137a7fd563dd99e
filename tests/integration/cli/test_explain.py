"""The command line explains a policy; it needs no running process."""

import pytest

from resilience import BreakerPolicy


def test_explain_says_what_the_method_says(cli):
    code, out, err = cli("explain")
    assert (code, out, err) == (0, f"{BreakerPolicy().explain()}\n", "")


def test_explain_takes_a_policy_and_what_its_calls_are_like(cli):
    text = "failure_threshold=5, recovery_timeout=Backoff(10, maximum=40)"
    options = ("--attempts", "1", "--call-timeout", "none", "--calls-per-second", "2.5")
    code, out, err = cli("explain", "--policy", text, *options, "--concurrency", "7")
    assert (code, err) == (0, "")
    assert "2.5 calls per second, 7 at a time at most, with 1 attempt each, without a" in out
    assert "Between two probes there are 40 s at most." in out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--policy", "failure_threshold=0"), "failure_threshold must be"),
        (("--attempts", "0"), "attempts must be"),
        (("--call-timeout", "-1"), "call_timeout must be"),
        (("--call-timeout", "soon"), "--call-timeout: invalid"),
    ],
)
def test_what_cannot_be_explained_is_an_error(cli, options, says):
    code, out, err = cli("explain", *options)
    assert (code > 0, out) == (True, "")
    assert says in err
    assert "Traceback" not in err
