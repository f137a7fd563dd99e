"""The settings of a registry, and what it needs of an integration that shares its circuits."""

import random
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Protocol, TypeAlias, TypedDict, runtime_checkable

from resilience import _validate
from resilience._text import bounded_name, one_line
from resilience.breaker import CircuitBreaker
from resilience.circuit import Circuit
from resilience.classify import check_classifiers
from resilience.outcome import Classifier, ResultClassifier
from resilience.policy import BreakerPolicy

# These are part of each circuit that exists.
_FIXED_SETTINGS = ("normalize", "clock", "rng", "sharing")

#: The regions that a registry makes breakers for: these, or those for which a function is true.
AllowedRegions: TypeAlias = Collection[str] | Callable[[str], bool]


@runtime_checkable
class Sharing(Protocol):
    """What a registry needs of an integration that shares its circuits with other processes."""

    @property
    def is_closed(self) -> bool:
        """Whether it has stopped sharing, for good."""
        ...

    def bind(self, owner: object) -> None:
        """Belong to one registry from now on; a ValueError if it belongs to another one."""

    def make_circuit(self, region: str, policy: BreakerPolicy, now: float) -> Circuit:
        """Make the circuit of a new breaker, which may not come into use."""
        ...

    def join(self, breaker: CircuitBreaker) -> None:
        """Share the circuit of a breaker, once, after it came into use; not under the lock."""

    def adopt(self, breaker: CircuitBreaker) -> None:
        """Share the circuit of a breaker that another one has shared, which is closed."""

    def close(self) -> None:
        """Stop sharing."""


class Settings(TypedDict, total=False):
    """What `CircuitBreakerRegistry.configure` takes."""

    policy: BreakerPolicy
    policies: Mapping[str, BreakerPolicy] | None
    max_regions: int
    classifier: Classifier
    result_classifier: ResultClassifier | None
    normalize: Callable[[str], str] | None
    allowed_regions: AllowedRegions | None
    clock: Callable[[], float] | None
    rng: random.Random | None
    sharing: Sharing | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSettings:
    """The settings of a registry, checked."""

    policy: BreakerPolicy
    policies: Mapping[str, BreakerPolicy] | None
    max_regions: int
    classifier: Classifier
    result_classifier: ResultClassifier | None
    normalize: Callable[[str], str] | None
    allowed_regions: AllowedRegions | None
    clock: Callable[[], float] | None
    rng: random.Random | None
    sharing: Sharing | None

    def __post_init__(self) -> None:
        _validate.check_type("policy", self.policy, BreakerPolicy)
        if self.policies is not None:
            _validate.check_type("policies", self.policies, Mapping)
        _validate.check_count("max_regions", self.max_regions)
        _validate.check_type("rng", self.rng, random.Random, type(None))
        _validate.check_type("sharing", self.sharing, Sharing, type(None))
        check_classifiers(self.classifier, self.result_classifier)
        takes = "a region and returns its name"
        _validate.check_callable("normalize", self.normalize, takes, optional=True)

    def name(self, region: str) -> str:
        """Return the one name of a region, of a bounded length."""
        if self.normalize is None:
            return bounded_name(region)
        try:
            name = self.normalize(region)
        except Exception as error:
            kind = type(error).__name__
            raise ValueError(f"normalize raised {kind} for {_validate.shown(region)}") from error
        what = f"what normalize gives for {_validate.shown(region)}"
        return bounded_name(_validate.check_text(what, name))

    def allows(self) -> Callable[[str], object]:
        """Check the regions that are allowed, and return a function that asks for one."""
        allowed = self.allowed_regions
        if allowed is None:
            return lambda _name: True
        if callable(allowed):
            _validate.check_callable("allowed_regions", allowed, "a region and returns a bool")
            return allowed
        if isinstance(allowed, str) or not isinstance(allowed, Collection):
            expected = "a collection of regions, or a function that takes one and returns a bool"
            raise TypeError(f"allowed_regions must be {expected}, got {_validate.kind_of(allowed)}")
        what = "a region in allowed_regions"
        return frozenset(self.name(_validate.check_text(what, one)) for one in allowed).__contains__

    def policies_by_name(self) -> dict[str, BreakerPolicy]:
        """Check the regions' own policies, and key them by the one name of each region."""
        given = self.policies or {}
        named: dict[str, BreakerPolicy] = {}
        for region, policy in given.items():
            name = _validate.check_text("a region in policies", region)
            _validate.check_type(f"policies[{_validate.shown(name)}]", policy, BreakerPolicy)
            named[self.name(name)] = policy
        if len(named) < len(given):
            raise ValueError(f"policies names a region twice: {one_line(', '.join(given))}")
        return named

    def check_replaces(self, old: "CheckedSettings", breakers: Iterable[CircuitBreaker]) -> None:
        """Reject what cannot be changed while there are breakers, whose circuits are made for it.

        Raises:
            RuntimeError: Something is, other than a closed sharing by a new one.
        """
        changed = [
            name for name in _FIXED_SETTINGS if getattr(self, name) is not getattr(old, name)
        ]
        if old.sharing is not None and self.sharing is not None and old.sharing.is_closed:
            changed = [name for name in changed if name != "sharing"]
        if changed and any(True for _ in breakers):
            after = (
                " or after close()" if changed == ["sharing"] and old.sharing is not None else ""
            )
            raise RuntimeError(f"{changed[0]} can be set only while the registry is empty{after}")


def check_names(settings: Iterable[str]) -> None:
    """Reject names of settings that do not exist."""
    known = [field.name for field in fields(CheckedSettings)]
    for name in settings:
        if name not in known:
            expected = f"one of {', '.join(known)}"
            raise TypeError(f"unknown setting {_validate.shown(name)}, expected {expected}")
