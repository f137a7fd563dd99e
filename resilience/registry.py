"""CircuitBreakerRegistry: one breaker per region, made on first use; default_registry."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypedDict, Unpack, cast
from weakref import WeakValueDictionary

from resilience import _validate, events, history, log
from resilience._lock import lock
from resilience.breaker import CircuitBreaker, CircuitSnapshot
from resilience.classify import Classifier, ResultClassifier, classify_error
from resilience.genesys import canonical_region
from resilience.policy import BreakerPolicy
from resilience.shared_circuit import Sharing

# A region may be spelled in so many ways, on average, before all spellings are looked up anew.
_SPELLINGS_PER_REGION = 2


class Settings(TypedDict, total=False):
    """What `CircuitBreakerRegistry.configure` takes."""

    policy: BreakerPolicy
    policies: Mapping[str, BreakerPolicy] | None
    max_regions: int
    classifier: Classifier
    result_classifier: ResultClassifier | None
    normalize: Callable[[str], str] | None
    clock: Callable[[], float] | None
    sharing: Sharing | None


class CircuitBreakerRegistry:
    """Makes one breaker per region on first use, and hands out the same ever after (T10, "Scope").

    Args:
        policy: The thresholds of every region that has none of its own.
        policies: Region -> its own thresholds.
        max_regions: How many breakers it keeps. Beyond that it lets go of those that know least:
            first CLOSED without a streak, then idle for ten recovery timeouts, then the oldest;
            never one that is forced open or listened to, and never one that anybody still holds.
        classifier: Decides what an exception says.
        result_classifier: Decides what a returned value says; None: it is a success.
        normalize: Gives the one name of a region that is spelled in several ways.
        clock: Returns seconds; None means `time.monotonic`.
        sharing: Shares the circuits with other processes, such as
            `resilience.integrations.redis.RedisSharing`; None: they are this process's own.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has a wrong value.
    """

    def __init__(
        self,
        policy: BreakerPolicy = BreakerPolicy(),  # noqa: B008 - immutable
        *,
        policies: Mapping[str, BreakerPolicy] | None = None,
        max_regions: int = 1000,
        classifier: Classifier = classify_error,
        result_classifier: ResultClassifier | None = None,
        normalize: Callable[[str], str] | None = None,
        clock: Callable[[], float] | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self._settings: dict[str, Any] = {}
        self._breakers: dict[str, CircuitBreaker] = {}
        # Let go of, but still held by somebody: a region has one circuit, whoever asks.
        self._let_go: WeakValueDictionary[str, CircuitBreaker] = WeakValueDictionary()
        # Every spelling seen of late -> its breaker: the decorator looks here first.
        self.spellings: dict[str, CircuitBreaker] = {}
        #: The last changes of state, of all circuits.
        self.history = history.History()
        self._listeners = events.RegistryListeners(((self._take_back,),), self.history.note)
        self._crowded = ""
        self.configure(
            policy=policy, policies=policies, max_regions=max_regions, classifier=classifier,
            result_classifier=result_classifier, normalize=normalize, clock=clock, sharing=sharing,
        )  # fmt: skip

    def get(self, region: str) -> CircuitBreaker:
        """Give the breaker of a region; thread safe.

        Args:
            region: Its name, in any spelling that `normalize` knows.

        Returns:
            The same breaker at every call.

        Raises:
            TypeError: The region is no text, or `normalize` did not give one.
            ValueError: The region is empty.
        """
        try:
            return self.spellings[region]
        except (KeyError, TypeError):  # TypeError: not hashable, so no text either
            return self._find(_validate.check_text("region", region))

    def configure(self, **settings: Unpack[Settings]) -> None:
        """Change settings, at once also for the circuits that exist.

        A running OPEN follows a new recovery timeout; a probe keeps the end of its lease.

        Args:
            settings: The keywords of the registry itself; what is not given stays as it is.

        Raises:
            TypeError: A setting is unknown or has the wrong type.
            ValueError: A setting has a wrong value.
            RuntimeError: `normalize`, `clock` or `sharing` is changed while there are breakers.
        """
        merged: dict[str, Any] = {**self._settings, **settings}
        _check(merged)
        policies = _by_name(merged["policies"], merged["normalize"])
        with lock:
            breakers = self._alive()
            for fixed in ("normalize", "clock", "sharing"):
                if breakers and merged[fixed] != self._settings[fixed]:
                    raise RuntimeError(f"{fixed} can be set only while the registry is empty")
            self._settings, self._policies = merged, policies
            for breaker in breakers:
                self._set_up(breaker)
            self._make_room(merged["max_regions"])

    def snapshots(self) -> list[CircuitSnapshot]:
        """Describe every circuit, in the order in which they were made."""
        return [breaker.snapshot() for breaker in self]

    def reset(self) -> None:
        """Close every circuit by hand."""
        for breaker in self._alive():
            breaker.reset()

    def close(self) -> None:
        """Stop sharing: the circuits go on alone, and who waits looks again."""
        if (sharing := self._settings["sharing"]) is not None:
            sharing.close()

    async def aclose(self) -> None:
        """Stop sharing, in asyncio: as `close`, without holding up the loop."""
        await asyncio.to_thread(self.close)

    def listen(self, listener: events.Listener) -> Callable[[], None]:
        """Tell a function about each change of state of every circuit, also of later ones.

        Args:
            listener: Takes one `StateChanged`, as with `CircuitBreaker.listen`.

        Returns:
            A function that ends it.

        Raises:
            TypeError: The listener cannot be called, or is an `async def`.
        """
        return self._listeners.add(listener)

    def __iter__(self) -> Iterator[CircuitBreaker]:
        return iter(list(self._breakers.values()))

    def __len__(self) -> int:
        return len(self._breakers)

    def __contains__(self, region: object) -> bool:
        known = isinstance(region, str) and bool(region.strip())
        return known and _name(cast("str", region), self._settings["normalize"]) in self._breakers

    def _find(self, region: str) -> CircuitBreaker:
        name = _name(region, self._settings["normalize"])
        limit, clock = self._settings["max_regions"], self._settings["clock"]
        with lock:
            if (breaker := self._breakers.get(name)) is None:
                breaker = self._let_go.pop(name, None) or CircuitBreaker(name, clock=clock)
                if (sharing := self._settings["sharing"]) is not None:
                    sharing.join(breaker)
                breaker._outbox.registry_listeners = self._listeners
                self._set_up(breaker)
                self._make_room(limit - 1)
                self._breakers[name] = breaker
            if len(self.spellings) >= _SPELLINGS_PER_REGION * limit:
                self.spellings.clear()
            self.spellings[region] = breaker
        if self._crowded == "to be told":
            self._crowded = "told"
            log.log_crowded(limit)
        return breaker

    def _take_back(self, event: events.StateChanged) -> None:
        """Keep a breaker again that was let go of idle, now that it knows something."""
        with lock:
            if (breaker := self._let_go.pop(event.region, None)) is not None:
                self._breakers[event.region] = breaker

    def _set_up(self, breaker: CircuitBreaker) -> None:
        settings = self._settings
        policy = self._policies.get(breaker.region) or settings["policy"]
        breaker._configure(policy, settings["classifier"], settings["result_classifier"])

    def _alive(self) -> list[CircuitBreaker]:
        with lock:
            return [*self._breakers.values(), *self._let_go.values()]

    def _make_room(self, limit: int) -> None:
        """Let go of breakers until `limit` are left, or only such as must be kept."""
        while len(self._breakers) > limit and (name := self._least_needed()) is not None:
            self._let_go[name] = self._breakers.pop(name)
            self.spellings.clear()
            self._crowded = self._crowded or "to be told"

    def _least_needed(self) -> str | None:
        first_of: dict[int | None, str] = {}
        for name, breaker in self._breakers.items():
            if (rank := breaker._eviction_rank()) == 0:
                return name
            first_of.setdefault(rank, name)
        return first_of.get(1) or first_of.get(2)


def _check(settings: dict[str, Any]) -> None:
    if unknown := settings.keys() - Settings.__annotations__.keys():
        known = ", ".join(Settings.__annotations__)
        raise TypeError(f"unknown setting {min(unknown)!r}, expected one of {known}")
    _validate.check_type("policy", settings["policy"], BreakerPolicy)
    _validate.check_count("max_regions", settings["max_regions"])
    _validate.check_type("sharing", settings["sharing"], Sharing, type(None))
    _validate.check_classifiers(settings["classifier"], settings["result_classifier"])
    for name, takes in (("clock", "nothing"), ("normalize", "a region and returns its name")):
        _validate.check_callable(name, settings[name], takes, optional=True)


def _by_name(policies: Any, normalize: Callable[[str], str] | None) -> dict[str, BreakerPolicy]:
    """Check the regions' own policies, and key them by the regions' one name."""
    _validate.check_type("policies", {} if policies is None else policies, Mapping)
    named: dict[str, BreakerPolicy] = {}
    for region, policy in (policies or {}).items():
        _validate.check_type(f"policies[{region!r}]", policy, BreakerPolicy)
        named[_name(_validate.check_text("a region in policies", region), normalize)] = policy
    if len(named) < len(policies or ()):
        raise ValueError(f"policies names a region twice: {', '.join(policies or ())}")
    return named


def _name(region: str, normalize: Callable[[str], str] | None) -> str:
    try:
        name = normalize(region) if normalize else region
    except Exception as error:
        raise ValueError(f"normalize raised {type(error).__name__} for {region!r}") from error
    return _validate.check_text(f"what normalize gives for {region!r}", name)


#: The registry that `@region_breaker` uses unless told otherwise; it knows the Genesys regions.
default_registry = CircuitBreakerRegistry(normalize=canonical_region)
