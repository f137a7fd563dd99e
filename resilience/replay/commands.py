"""The commands ``replay`` and ``incidents``."""

import argparse
import sys
from typing import Protocol

from resilience.policy import BreakerPolicy
from resilience.recording import NotARecordingError, read_recording
from resilience.recording.policies import describe_policy, parse_policy
from resilience.replay.compare import compare, describe_comparison, describe_recording
from resilience.replay.incident import incident_reports


class Subcommands(Protocol):
    """What `ArgumentParser.add_subparsers` returns."""

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:  # noqa: A002 - its name
        """Add a command, and return its parser."""
        ...


def add_to(subcommands: Subcommands) -> None:
    """Add the commands to a command line."""
    replay = subcommands.add_parser("replay", help="run recorded calls through other policies")
    _add_file(replay)
    replay.add_argument(
        "--policy",
        action="append",
        default=[],
        type=policy_argument,
        metavar="TEXT",
        help='such as "failure_threshold=5, recovery_timeout=30", or "default"; any number of them',
    )
    replay.set_defaults(run=_replay)
    incidents = subcommands.add_parser("incidents", help="print a report of each recorded outage")
    _add_file(incidents)
    incidents.set_defaults(run=_incidents)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="what CircuitBreakerRegistry.record has written")
    parser.add_argument("--region", help="only this region")


def policy_argument(text: str) -> BreakerPolicy:
    """Return the policy that an argument of the command line describes.

    Raises:
        ArgumentTypeError: It describes none.
    """
    try:
        return parse_policy(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _replay(options: argparse.Namespace) -> int:
    try:
        recorded = read_recording(options.file)
    except (OSError, NotARecordingError) as error:
        return _fail(error)
    policies = {describe_policy(policy): policy for policy in options.policy or [BreakerPolicy()]}
    named = {f"policy {number}": one for number, one in enumerate(policies.values(), 1)}
    parts = [describe_recording(recorded)]
    parts += [
        describe_comparison(compare(region, named), recorded.clock_to_time)
        for region in recorded.regions
        if options.region in (None, region.region)
    ]
    sys.stdout.write("\n\n".join(parts) + "\n")
    return 0


def _incidents(options: argparse.Namespace) -> int:
    try:
        reports = incident_reports(options.file, options.region)
    except (OSError, NotARecordingError) as error:
        return _fail(error)
    none = "No outage was recorded from its beginning to its end."
    sys.stdout.write("\n\n\n".join(reports or [none]) + "\n")
    return 0


def _fail(error: Exception) -> int:
    sys.stderr.write(f"{error}\n")
    return 1
