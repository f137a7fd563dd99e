"""The commands ``status``, ``watch``, ``history``, ``force-open`` and ``reset``."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from resilience.cli.page_target import page_at_socket, page_at_url
from resilience.cli.target import ChangeLine, CircuitLine, Target, TargetError

_ENVIRONMENT = {
    "redis": "RESILIENCE_REDIS",
    "url": "RESILIENCE_URL",
    "socket": "RESILIENCE_SOCKET",
}
_TOKEN = "RESILIENCE_TOKEN"  # noqa: S105 - the name of a variable
_MINUTE, _HOUR = 60, 3600
_STATES = ("OPEN", "HALF_OPEN", "CLOSED")


class Subcommands(Protocol):
    """What `ArgumentParser.add_subparsers` returns."""

    def add_parser(self, name: str, *, help: str) -> argparse.ArgumentParser:  # noqa: A002 - its name
        """Add a command, and return its parser."""
        ...


def add_to(subcommands: Subcommands) -> None:
    """Add the commands to a command line."""
    status = _add(subcommands, "status", _status, "show the circuits")
    status.add_argument("--json", action="store_true", help="print JSON")
    watch = _add(subcommands, "watch", _watch, "show the circuits, and then each change")
    watch.add_argument(
        "--interval", type=_seconds, default=1.0, help="seconds between two looks (1)"
    )
    history = _add(subcommands, "history", _history, "show the most recent changes of state")
    history.add_argument("--json", action="store_true", help="print JSON")
    force = _add(subcommands, "force-open", _force_open, "hold a circuit open until a reset")
    _add_region(force)
    force.add_argument("--reason", required=True, help="why; logs and rejections show it")
    _add_region(_add(subcommands, "reset", _reset, "close a circuit"))


def _add(
    subcommands: Subcommands, name: str, run: Callable[[argparse.Namespace, Target], int], text: str
) -> argparse.ArgumentParser:
    parser = subcommands.add_parser(name, help=text)
    where = parser.add_argument_group("where the circuits are (one of these)")
    where.add_argument("--redis", metavar="URL", help="the store of RedisSharing: all processes")
    where.add_argument("--url", help="the status page of one process")
    where.add_argument("--socket", metavar="PATH", help="a status page on a local socket")
    parser.add_argument(
        "--prefix", default="region-breaker", help="the prefix of RedisSharing (region-breaker)"
    )
    parser.add_argument(
        "--token-file", metavar="PATH", help=f"the token for the page's actions (or {_TOKEN})"
    )
    parser.set_defaults(run=partial(_run, run))
    return parser


def _add_region(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("region")
    parser.add_argument("--registry", default="", help="its registry, where there are several")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError
    return seconds


def _run(run: Callable[[argparse.Namespace, Target], int], options: argparse.Namespace) -> int:
    try:
        return run(options, _target(options))
    except (TargetError, ImportError) as error:
        sys.stderr.write(f"resilience: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # what reads the output, such as `head`, has seen enough
        sys.stderr.close()
        return 0


def _target(options: argparse.Namespace) -> Target:
    given = {name: getattr(options, name) for name in _ENVIRONMENT if getattr(options, name)}
    if not given:
        variables = {name: os.environ.get(variable) for name, variable in _ENVIRONMENT.items()}
        given = {name: value for name, value in variables.items() if value}
    if len(given) != 1:
        names = ", ".join(_ENVIRONMENT.values())
        raise TargetError(f"give one of --redis, --url and --socket (or one of {names})")
    ((kind, where),) = given.items()
    if kind == "redis":
        from resilience.cli.store_target import StoreTarget  # noqa: PLC0415 - needs redis-py

        return StoreTarget(where, options.prefix, f"operator {_user()}".strip())
    token = _read_token(options)
    return page_at_url(where, token) if kind == "url" else page_at_socket(where, token)


def _user() -> str:
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or ""


def _read_token(options: argparse.Namespace) -> str:
    if options.token_file is None:
        return os.environ.get(_TOKEN, "")
    try:
        return Path(options.token_file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise TargetError(f"cannot read --token-file: {type(error).__name__}") from None


# The commands


def _status(options: argparse.Namespace, target: Target) -> int:
    circuits = _sorted(target.circuits())
    if options.json:
        print(json.dumps([asdict(circuit) for circuit in circuits], indent=2))
    else:
        _print_circuits(circuits)
    return 0


def _watch(options: argparse.Namespace, target: Target) -> int:
    before = {(one.registry, one.region): one for one in target.circuits()}
    _print_circuits(_sorted(list(before.values())))
    while True:
        time.sleep(options.interval)
        now = {(one.registry, one.region): one for one in target.circuits()}
        for key, circuit in now.items():
            old = before[key].state if key in before else "CLOSED"
            if circuit.state != old:
                _print_change(_change(old, circuit))
        before = now


def _history(options: argparse.Namespace, target: Target) -> int:
    changes = target.history()
    if options.json:
        print(json.dumps([asdict(change) for change in changes], indent=2))
    elif not changes:
        print("no change of state is known")
    for change in () if options.json else changes:
        _print_change(change)
    if target.missing_history:
        sys.stderr.write(f"resilience: {target.missing_history}\n")
    return 0


def _force_open(options: argparse.Namespace, target: Target) -> int:
    print(target.force_open(options.region, options.registry, options.reason))
    return 0


def _reset(options: argparse.Namespace, target: Target) -> int:
    print(target.reset(options.region, options.registry))
    return 0


# What they print


def _sorted(circuits: Sequence[CircuitLine]) -> list[CircuitLine]:
    def place(circuit: CircuitLine) -> tuple[int, str, str]:
        return _STATES.index(circuit.state), circuit.registry, circuit.region

    return sorted(circuits, key=place)


def _print_circuits(circuits: Sequence[CircuitLine]) -> None:
    if not circuits:
        print("no circuit is known yet")
    names = [_name(circuit.registry, circuit.region) for circuit in circuits]
    width = max(map(len, names), default=0)
    for name, circuit in zip(names, circuits, strict=True):
        lasts = _duration(circuit.seconds_in_state)
        line = f"{circuit.state:9}  {name:{width}}  for {lasts:12}  {circuit.note}"
        print(line.rstrip(), flush=True)


def _print_change(change: ChangeLine) -> None:
    name = _name(change.registry, change.region)
    move = f"{change.old} -> {change.new}" if change.old else f"-> {change.new}"
    print(f"{change.time}  {name}  {move}: {change.reason}", flush=True)


def _change(old: str, circuit: CircuitLine) -> ChangeLine:
    return ChangeLine(
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        registry=circuit.registry,
        region=circuit.region,
        old=old,
        new=circuit.state,
        reason=circuit.note or "recovered or reset",
    )


def _name(registry: str, region: str) -> str:
    return f"{registry}/{region}" if registry else region


def _duration(seconds: float) -> str:
    whole = int(max(0.0, seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
