"""CircuitBreakerRegistry: one breaker per region, made on first use; default_registry."""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypedDict, Unpack, runtime_checkable
from weakref import WeakValueDictionary

from resilience import _validate, log
from resilience._lock import lock
from resilience.breaker import CircuitBreaker, CircuitSnapshot
from resilience.circuit import Circuit
from resilience.classify import check_classifiers, classify_error
from resilience.errors import CircuitBreakerOpenError
from resilience.events import Listener
from resilience.eviction import EvictionOrder
from resilience.genesys import canonical_region
from resilience.history import History
from resilience.identity import KeepsIdentity
from resilience.listeners import Subscribers
from resilience.outcome import Classifier, ResultClassifier
from resilience.policy import BreakerPolicy
from resilience.recording import Recording
from resilience.replay import report_outage

# A region may be spelled in this many ways, on average, before all aliases are looked up again.
_ALIASES_PER_REGION = 2
_FIXED_SETTINGS = ("normalize", "clock", "rng", "sharing")


@runtime_checkable
class Sharing(Protocol):
    """What a registry needs of an integration that shares its circuits with other processes."""

    def bind(self, owner: object) -> None:
        """Belong to one registry from now on; a ValueError if it belongs to another one."""

    def make_circuit(self, region: str, policy: BreakerPolicy, now: float) -> Circuit:
        """Make the circuit of a new breaker, which may not come into use."""
        ...

    def join(self, breaker: CircuitBreaker) -> None:
        """Share the circuit of a breaker, once, after it came into use; not under the lock."""

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
    clock: Callable[[], float] | None
    rng: random.Random | None
    sharing: Sharing | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """The settings of a registry, checked."""

    policy: BreakerPolicy
    policies: Mapping[str, BreakerPolicy] | None
    max_regions: int
    classifier: Classifier
    result_classifier: ResultClassifier | None
    normalize: Callable[[str], str] | None
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
        """Return the one name of a region."""
        if self.normalize is None:
            return region
        try:
            name = self.normalize(region)
        except Exception as error:
            kind = type(error).__name__
            raise ValueError(f"normalize raised {kind} for {region!r}") from error
        return _validate.check_text(f"what normalize gives for {region!r}", name)

    def policies_by_name(self) -> dict[str, BreakerPolicy]:
        """Check the regions' own policies, and key them by the one name of each region."""
        given = self.policies or {}
        named: dict[str, BreakerPolicy] = {}
        for region, policy in given.items():
            _validate.check_type(f"policies[{region!r}]", policy, BreakerPolicy)
            named[self.name(_validate.check_text("a region in policies", region))] = policy
        if len(named) < len(given):
            raise ValueError(f"policies names a region twice: {', '.join(given)}")
        return named


class CircuitBreakerRegistry(KeepsIdentity):
    """Makes one breaker per region on first use, and returns the same one from then on.

    Copying it returns the same registry, and pickling it is a `TypeError`: there is one circuit for
    a region.

    Args:
        policy: The thresholds of every region that has none of its own.
        policies: Region -> its own thresholds.
        max_regions: The number of breakers it keeps. Beyond that it evicts those that hold the
            least information: first CLOSED without a streak, then idle for ten recovery timeouts,
            then the oldest; never one that is forced open or listened to. A breaker that somebody
            still holds is found again.
        classifier: Classifies exceptions.
        result_classifier: Classifies returned values; None: each is a success.
        normalize: Returns the one name of a region that is spelled in several ways.
        clock: Returns seconds; None means `time.monotonic`.
        rng: The source of jitter, such as ``random.Random(7)`` in a test; None: that of `random`.
        sharing: Shares the circuits with other processes, such as
            `resilience.integrations.redis.RedisSharing`; None: they belong to this process alone.

    Raises:
        TypeError: An argument has the wrong type, a function among them is an `async def`, a
            classifier is an exception type, or the clock does not return a number.
        ValueError: An argument has a wrong value, or the clock raises.
    """

    NOT_PICKLED = (
        "the copy would have a second circuit for each region. Import it from its module in the"
        " other process; circuits of several processes can be shared through Redis"
    )

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
        rng: random.Random | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        settings = _Settings(
            policy=policy,
            policies=policies,
            max_regions=max_regions,
            classifier=classifier,
            result_classifier=result_classifier,
            normalize=normalize,
            clock=clock,
            rng=rng,
            sharing=sharing,
        )
        self._policies = settings.policies_by_name()
        _validate.first_reading(clock)
        if sharing is not None:
            sharing.bind(self)
        self._settings = settings
        self._breakers: dict[str, CircuitBreaker] = {}
        self._eviction_order = EvictionOrder(self._breakers)
        # Evicted, but still held by somebody: a region has one circuit, whoever asks.
        self._evicted: WeakValueDictionary[str, CircuitBreaker] = WeakValueDictionary()
        #: Every spelling that was used -> its breaker; the decorator looks here first.
        self.aliases: dict[str, CircuitBreaker] = {}
        self._has_evicted = False
        self._eviction_is_logged = False
        self._subscribers = self._make_subscribers()
        self._recording: Recording | None = None

    @property
    def history(self) -> History:
        """The most recent state changes of all circuits."""
        return self._subscribers.history

    def get(self, region: str) -> CircuitBreaker:
        """Return the breaker of a region; thread safe.

        Args:
            region: Its name, in any spelling that `normalize` knows.

        Returns:
            The same breaker at every call.

        Raises:
            TypeError: The region is not a string, or `normalize` did not return one.
            ValueError: The region is empty.
        """
        try:
            return self.aliases[region]
        except (KeyError, TypeError):  # TypeError: it cannot be hashed, so it is not a string
            return self._find(_validate.check_text("region", region))

    def configure(self, **settings: Unpack[Settings]) -> None:
        """Change settings, for the circuits that exist as well.

        A running OPEN follows a new recovery timeout; a probe keeps the end of its lease.

        Args:
            settings: The keywords of the registry itself; what is not given stays as it is.

        Raises:
            TypeError: A setting is unknown or has the wrong type, as with the registry itself.
            ValueError: A setting has a wrong value.
            RuntimeError: `normalize`, `clock`, `rng` or `sharing` is changed while there are
                breakers.
        """
        _check_names(settings)
        old = self._settings
        new = replace(old, **settings)
        policies = new.policies_by_name()
        fixed = [name for name in _FIXED_SETTINGS if getattr(new, name) is not getattr(old, name)]
        now = _validate.first_reading(new.clock)
        with lock:
            if fixed and self._all_breakers():
                raise RuntimeError(f"{fixed[0]} can be set only while the registry is empty")
            if new.sharing is not None and new.sharing is not old.sharing:
                new.sharing.bind(self)
            self._settings, self._policies = new, policies
            for breaker in self._all_breakers():
                self._configure_breaker(breaker)
            self._eviction_order.rebuild()
            self._evict(new.max_regions, now)

    def now(self) -> float:
        """Return the time of the breakers' clock, in seconds."""
        return _time_of(self._settings.clock)

    def snapshots(self) -> list[CircuitSnapshot]:
        """Describe every circuit, in the order in which they were made."""
        return [breaker.snapshot() for breaker in self]

    def reset(self) -> None:
        """Close every circuit by hand."""
        for breaker in self._all_breakers():
            breaker.reset()

    def clear(self) -> None:
        """Forget all breakers and the history, and end listeners and sharing.

        The other settings stay. Everything can be set again, the clock included: for tests, and
        for an application that starts twice. A breaker that somebody still holds stands alone.
        """
        self.close()
        if self._recording is not None:
            self._recording.close()
        settings = replace(self._settings, sharing=None)
        with lock:
            self._settings = settings
            forgotten = list(self._breakers.values())
            self._breakers.clear()
            self._evicted.clear()
            self.aliases.clear()
            self._eviction_order = EvictionOrder(self._breakers)
            self._has_evicted = self._eviction_is_logged = False
            old = self._subscribers
            self._subscribers = self._make_subscribers(old.history)
        old.retire()
        del forgotten  # not under the lock: their listeners are freed, and may run a user's code

    def close(self) -> None:
        """Stop sharing: the circuits go on alone, and waiting tasks look again."""
        if self._settings.sharing is not None:
            self._settings.sharing.close()

    async def aclose(self) -> None:
        """Stop sharing, in asyncio: as `close`, without holding up the event loop."""
        await asyncio.to_thread(self.close)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call a function with each state change of every circuit, those made later included.

        Args:
            listener: Takes one `StateChanged`, as with `CircuitBreaker.listen`.

        Returns:
            A function that ends it.

        Raises:
            TypeError: The listener cannot be called, or is an `async def`.
        """
        return self._subscribers.listeners.add(listener)

    def record(
        self,
        path: str | Path,
        *,
        limit: int = 1_000_000,
        on_outage: Callable[[str], object] | None = None,
    ) -> Recording:
        """Record the outcomes of all calls into a file, to be replayed under other policies.

        While it records, each call takes the lock and is written down, with 8 bytes. An existing
        recording at the path is kept as `path` with ``.1`` at its end.

        Args:
            path: Where to write; a file of this process alone.
            limit: Outcomes to keep at most; the oldest go first.
            on_outage: Takes a report of one page each time that a circuit has closed after an
                outage, as text; called in a thread of its own.

        Returns:
            The recording; `close` ends it, and so does `clear` of the registry.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: `limit` is not positive, or the file at the path is not a recording.
            OSError: The file cannot be written.
            RuntimeError: The registry records already.
        """
        _validate.check_type("path", path, str, Path)
        _validate.check_count("limit", limit)
        takes = "the text of a report"
        _validate.check_callable("on_outage", on_outage, takes, optional=True)
        if self._recording is not None:
            raise RuntimeError("the registry records already: close that recording first")
        report = None if on_outage is None else partial(report_outage, Path(path), on_outage)
        recording = Recording(Path(path), limit, self.now(), report)
        stop_listening = self._subscribers.listeners.add(recording.note_change)
        recording.on_close = partial(self._stop_recording, recording, stop_listening)
        with lock:
            self._recording = recording
            for breaker in self._all_breakers():
                self._record_breaker(breaker)
        return recording

    def on_rejection(
        self, listener: Callable[[CircuitBreakerOpenError], object]
    ) -> Callable[[], None]:
        """Call a function with each rejection of every circuit.

        Args:
            listener: Takes one `CircuitBreakerOpenError`, before the call that was rejected gets
                it. It should be quick: each rejected call waits for it. What it raises is logged.

        Returns:
            A function that ends it.

        Raises:
            TypeError: The listener cannot be called, or is an `async def`.
        """
        return self._subscribers.rejection_listeners.add(listener)

    def __iter__(self) -> Iterator[CircuitBreaker]:
        return iter(list(self._breakers.values()))

    def __len__(self) -> int:
        return len(self._breakers)

    def __contains__(self, region: object) -> bool:
        if not isinstance(region, str) or not region.strip():
            return False
        return self._settings.name(str.__str__(region)) in self._breakers

    # Finding and making

    def _make_subscribers(self, history: History | None = None) -> Subscribers:
        return Subscribers(self._readmit, history)

    def _find(self, region: str) -> CircuitBreaker:
        while True:
            settings = self._settings
            name = settings.name(region)
            with lock:
                breaker = self._breakers.get(name)
                if breaker is not None:
                    self._add_alias(region, breaker)
                    return breaker
            breaker = self._find_or_make(region, name, settings)
            if breaker is not None:
                return breaker

    def _find_or_make(self, region: str, name: str, settings: _Settings) -> CircuitBreaker | None:
        """Return the breaker of a region; None if the settings were changed meanwhile."""
        # Made before the lock is taken: it reads the user's clock. Another thread may be faster.
        now = _time_of(settings.clock)
        subscribers = self._subscribers
        made = self._make(name, settings, now)
        with lock:
            if self._settings is not settings or self._subscribers is not subscribers:
                return None
            breaker = self._breakers.get(name) or self._evicted.pop(name, None) or made
            if name not in self._breakers:
                self._keep(name, breaker, now)
            self._add_alias(region, breaker)
        if breaker is made and settings.sharing is not None:
            settings.sharing.join(breaker)
        self._log_first_eviction()
        return breaker

    def _make(self, name: str, settings: _Settings, now: float) -> CircuitBreaker:
        policy = self._policies.get(name, settings.policy)
        sharing = settings.sharing
        return CircuitBreaker(
            name,
            policy,
            classifier=settings.classifier,
            result_classifier=settings.result_classifier,
            clock=settings.clock,
            rng=settings.rng,
            circuit=None if sharing is None else sharing.make_circuit(name, policy, now),
            subscribers=self._subscribers,
        )

    def _keep(self, name: str, breaker: CircuitBreaker, now: float) -> None:
        """Keep a breaker; the caller holds the lock."""
        self._configure_breaker(breaker)
        self._evict(self._settings.max_regions - 1, now)
        self._record_breaker(breaker)
        breaker.is_evicted = False
        self._breakers[name] = breaker
        self._eviction_order.add(name)
        self._subscribers.changed_regions.add(name)

    def _configure_breaker(self, breaker: CircuitBreaker) -> None:
        settings = self._settings
        policy = self._policies.get(breaker.region, settings.policy)
        breaker.configure(policy, settings.classifier, settings.result_classifier)

    def _record_breaker(self, breaker: CircuitBreaker) -> None:
        """Let a breaker be recorded, if the registry records; the caller holds the lock."""
        if self._recording is not None:
            breaker.drive(self._recording.recorder_for(breaker.region, breaker.circuit))

    def _stop_recording(self, recording: Recording, stop_listening: Callable[[], None]) -> None:
        stop_listening()
        with lock:
            if self._recording is recording:
                self._recording = None
                for breaker in self._all_breakers():
                    breaker.drive(None)

    def _add_alias(self, region: str, breaker: CircuitBreaker) -> None:
        if len(self.aliases) >= _ALIASES_PER_REGION * self._settings.max_regions:
            self.aliases.clear()
        self.aliases[region] = breaker

    def _all_breakers(self) -> list[CircuitBreaker]:
        with lock:
            return [*self._breakers.values(), *self._evicted.values()]

    # Evicting

    def _readmit(self, breaker: CircuitBreaker, now: float) -> None:
        """Keep a breaker that was evicted again, now that it holds information."""
        with lock:
            if self._evicted.get(breaker.region) is breaker:
                del self._evicted[breaker.region]
                self._keep(breaker.region, breaker, now)

    def _evict(self, limit: int, now: float) -> None:
        """Evict breakers until `limit` are left, or only such as must stay."""
        if len(self._breakers) <= limit:
            return
        changed, self._subscribers.changed_regions = self._subscribers.changed_regions, set()
        self._eviction_order.update(changed)
        while len(self._breakers) > limit:
            region = self._eviction_order.first(now)
            if region is None:
                return
            self._eviction_order.discard(region)
            breaker = self._breakers.pop(region)
            breaker.is_evicted = True
            self._evicted[region] = breaker
            self.aliases.clear()
            self._has_evicted = True

    def _log_first_eviction(self) -> None:
        if self._has_evicted and not self._eviction_is_logged:
            self._eviction_is_logged = True
            log.log_eviction(self._settings.max_regions)


def _check_names(settings: Iterable[str]) -> None:
    known = [field.name for field in fields(_Settings)]
    for name in settings:
        if name not in known:
            raise TypeError(f"unknown setting {name!r}, expected one of {', '.join(known)}")


def _time_of(clock: Callable[[], float] | None) -> float:
    # Looked up at each use, so that freezegun can replace it.
    return time.monotonic() if clock is None else clock()


#: The registry that `@region_breaker` uses by default; it knows the Genesys regions.
default_registry = CircuitBreakerRegistry(normalize=canonical_region)
