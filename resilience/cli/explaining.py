"""The command ``explain``: what a policy means, before a program has it."""

import argparse
import sys

from resilience.cli.commands import Subcommands
from resilience.policy import BreakerPolicy
from resilience.replay.commands import policy_argument

_NO_TIMEOUT = "none"


def add_to(subcommands: Subcommands) -> None:
    """Add the command to a command line."""
    explain = subcommands.add_parser("explain", help="say what a policy means, in figures")
    explain.add_argument(
        "--policy",
        type=policy_argument,
        default=BreakerPolicy(),
        metavar="TEXT",
        help='such as "failure_threshold=5, recovery_timeout=30"; without it: the default policy',
    )
    explain.add_argument(
        "--attempts", type=int, default=5, help="requests that a call makes at most (5)"
    )
    explain.add_argument(
        "--call-timeout",
        type=_seconds_or_none,
        default=10.0,
        metavar="SECONDS",
        help="after which the client ends each request (10), or none",
    )
    explain.add_argument(
        "--calls-per-second", type=float, default=10.0, help="calls that come in a second (10)"
    )
    explain.add_argument(
        "--concurrency", type=int, default=100, help="calls that run at the same time at most (100)"
    )
    explain.set_defaults(run=_explain)


def _seconds_or_none(text: str) -> float | None:
    return None if text == _NO_TIMEOUT else float(text)


def _explain(options: argparse.Namespace) -> int:
    policy: BreakerPolicy = options.policy
    try:
        explanation = policy.explain(
            attempts=options.attempts,
            call_timeout=options.call_timeout,
            calls_per_second=options.calls_per_second,
            concurrency=options.concurrency,
        )
    except ValueError as error:
        sys.stderr.write(f"resilience: {error}\n")
        return 1
    sys.stdout.write(f"{explanation}\n")
    return 0
