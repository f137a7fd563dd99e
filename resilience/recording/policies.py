"""A policy as text: in a recording, and on the command line."""

import ast
from dataclasses import asdict, fields
from typing import Any

from resilience.policy import BreakerPolicy
from resilience.recovery import Backoff

_DEFAULT = BreakerPolicy()


def policy_to_dict(policy: BreakerPolicy) -> dict[str, object]:
    """Return the fields of a policy that are not the default, ready for JSON."""
    return {name: value for name, value in asdict(policy).items() if value != _field(name)}


def policy_from_dict(given: object) -> BreakerPolicy:
    """Return a policy from what `policy_to_dict` gave, after JSON.

    Raises:
        TypeError: A field has the wrong type.
        ValueError: It is not a dictionary, or a field is unknown or has a wrong value.
    """
    if not isinstance(given, dict):
        raise ValueError("a policy must be a dictionary")  # noqa: TRY004 - as text, it has no type
    settings = dict(given)
    _check_names(settings)
    if isinstance(settings.get("recovery_timeout"), dict):
        settings["recovery_timeout"] = Backoff(**settings["recovery_timeout"])
    if isinstance(settings.get("ramp"), list):
        settings["ramp"] = tuple(settings["ramp"])
    return BreakerPolicy(**settings)


def parse_policy(text: str) -> BreakerPolicy:
    """Return the policy of a text such as ``failure_threshold=5, recovery_timeout=Backoff(30)``.

    Args:
        text: The arguments of a `BreakerPolicy`, as Python writes them; "default" for none.

    Raises:
        ValueError: It is not that.
    """
    if text.strip() in ("", "default"):
        return _DEFAULT
    try:
        call = ast.parse(f"policy({text})", mode="eval").body
        arguments = _arguments(call)
        _check_names(arguments)
        return BreakerPolicy(**arguments)
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"not a policy: {text!r}: {error}") from None


def describe_policy(policy: BreakerPolicy) -> str:
    """Return a policy as the text that `parse_policy` takes."""
    given = {field.name: getattr(policy, field.name) for field in fields(policy)}
    parts = (f"{name}={value!r}" for name, value in given.items() if value != _field(name))
    return ", ".join(parts) or "default"


def _arguments(call: ast.expr) -> dict[str, Any]:  # the policy checks what they are
    if not isinstance(call, ast.Call) or call.args:
        raise ValueError("expected name=value, name=value")
    return {keyword.arg or "**": _value(keyword.value) for keyword in call.keywords}


def _value(node: ast.expr) -> object:
    """Return the value of a literal, or a Backoff of literals."""
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    if not isinstance(node.func, ast.Name) or node.func.id != "Backoff":
        raise ValueError("only a Backoff can be called here")
    positional = [ast.literal_eval(argument) for argument in node.args]
    named = {keyword.arg or "**": ast.literal_eval(keyword.value) for keyword in node.keywords}
    return Backoff(*positional, **named)


def _check_names(given: dict[str, object]) -> None:
    known = {field.name for field in fields(BreakerPolicy)}
    for name in given:
        if name not in known:
            raise ValueError(f"unknown field {name!r}, expected one of {', '.join(sorted(known))}")


def _field(name: str) -> object:
    value: object = getattr(_DEFAULT, name)
    return value
