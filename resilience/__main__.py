"""The command line: ``python -m resilience COMMAND``."""

import argparse
import sys
from collections.abc import Sequence

from resilience.cli import commands as operating
from resilience.cli import explaining
from resilience.replay import commands as replaying

#: Each of these modules has commands, and adds them to the parser.
MODULES = (operating, explaining, replaying)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m resilience", description=__doc__)
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in MODULES:
        module.add_to(subcommands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code of the process.

    Args:
        arguments: The command line; None: that of the process.
    """
    options = make_parser().parse_args(arguments)
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
