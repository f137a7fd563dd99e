"""CircuitBreakerRegistry: one breaker per region, made on first use; default_registry."""

import asyncio
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Self, Unpack
from weakref import WeakValueDictionary

from resilience import _validate, log
from resilience._lock import lock
from resilience._text import LONGEST_NAME, bounded_name
from resilience.breaker import CircuitBreaker, Retention
from resilience.circuit_name import DEFAULT_REGISTRY
from resilience.classify import classify_error
from resilience.errors import CircuitBreakerOpenError
from resilience.events import Listener, TenantThrottled
from resilience.eviction import EvictionOrder
from resilience.genesys import canonical_region, looks_like_region
from resilience.history import History
from resilience.identity import KeepsIdentity
from resilience.listeners import Subscribers
from resilience.outcome import Classifier, ResultClassifier
from resilience.policy import BreakerPolicy
from resilience.recording import Recording
from resilience.registry_settings import (
    AllowedRegions,
    CheckedSettings,
    Settings,
    Sharing,
    check_names,
)
from resilience.replay import report_outage
from resilience.snapshot import CircuitSnapshot

# Of the regions that look misspelled, this many are logged: they may be made up without end.
_MOST_WARNINGS = 10

# A region may be spelled in this many ways, on average, before all aliases are looked up again.
_ALIASES_PER_REGION = 2


class CircuitBreakerRegistry(KeepsIdentity):
    """Makes one breaker per region on first use, and returns the same one from then on.

    Copying it returns the same registry, and pickling it is a `TypeError`: there is one circuit for
    a region.

    Args:
        policy: The thresholds of every region that has none of its own.
        policies: Region -> its own thresholds.
        max_regions: The number of breakers it keeps. Beyond that it evicts those that hold the
            least information: first CLOSED without a streak, then idle for ten recovery timeouts,
            then CLOSED with a streak, then OPEN without any answer before. One that is OPEN and
            whose region was in use makes room only for another such one, and one that is forced
            open or listened to never. A breaker that somebody still holds is found again.
        classifier: Classifies exceptions.
        result_classifier: Classifies returned values; None: each is a success.
        normalize: Returns the one name of a region that is spelled in several ways. A name with
            more than 200 characters is shortened, and gets a hash of the whole.
        allowed_regions: The regions that there are, or a function that takes the one name of a
            region and returns whether there is one; every other region is a `ValueError`. None:
            all are allowed.
        clock: Returns seconds; None means `time.monotonic`.
        rng: The source of jitter, such as ``random.Random(7)`` in a test; None: that of `random`.
        sharing: Shares the circuits with other processes, such as
            `resilience.integrations.redis.RedisSharing`; None: they belong to this process alone.
        name: What the registry is called in logs, events, metrics and on the status page, for a
            program that has several. It stays the same.

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
        allowed_regions: AllowedRegions | None = None,
        clock: Callable[[], float] | None = None,
        rng: random.Random | None = None,
        sharing: Sharing | None = None,
        name: str = "",
    ) -> None:
        if name != "":
            name = bounded_name(_validate.check_text("name", name))
        settings = CheckedSettings(
            policy=policy,
            policies=policies,
            max_regions=max_regions,
            classifier=classifier,
            result_classifier=result_classifier,
            normalize=normalize,
            allowed_regions=allowed_regions,
            clock=clock,
            rng=rng,
            sharing=sharing,
        )
        self._policies = settings.policies_by_name()
        self._allows = settings.allows()
        _validate.first_reading(clock)
        if sharing is not None:
            sharing.bind(self)
        self._settings = settings
        self._name = name
        self._breakers: dict[str, CircuitBreaker] = {}
        self._eviction_order = EvictionOrder(self._breakers)
        # Evicted, but still held by somebody: a region has one circuit, whoever asks.
        self._evicted: WeakValueDictionary[str, CircuitBreaker] = WeakValueDictionary()
        #: Every spelling that was used -> its breaker; the decorator looks here first.
        self.aliases: dict[str, CircuitBreaker] = {}
        self._has_evicted = False
        self._eviction_is_logged = False
        # The regions that look misspelled, and were logged.
        self._suspicious: set[str] = set()
        self._subscribers = self._make_subscribers()
        self._recording: Recording | None = None

    @property
    def name(self) -> str:
        """What the registry is called; empty if it has no name."""
        return self._name

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
            ValueError: The region is empty, or not one of the allowed regions.
        """
        try:
            return self.aliases[region]
        except Exception:  # noqa: BLE001, S110 - new, or an object of any class, which is refused
            pass
        # Not while that error is handled: it would be shown with what is raised, and holds a value
        # that may be somebody's credentials.
        return self._find(_validate.check_text("region", region))

    def find(self, region: str) -> CircuitBreaker | None:
        """Return the breaker of a region that `get` has made before; make none.

        This is for names that anybody may have sent.

        Args:
            region: Its name, in any spelling that `normalize` knows.

        Returns:
            The same breaker as `get` returns; None if there is none.

        Raises:
            TypeError: The region is not a string, or `normalize` did not return one.
            ValueError: The region is empty.
        """
        name = self._settings.name(_validate.check_text("region", region))
        with lock:
            return self._breakers.get(name) or self._evicted.get(name)

    def configure(self, **settings: Unpack[Settings]) -> None:
        """Change settings, for the circuits that exist as well.

        A running OPEN follows a new recovery timeout; a probe keeps the end of its lease.

        Args:
            settings: The keywords of the registry itself; what is not given stays as it is.

        Raises:
            TypeError: A setting is unknown or has the wrong type, as with the registry itself.
            ValueError: A setting has a wrong value.
            RuntimeError: `normalize`, `clock`, `rng` or `sharing` is changed while there are
                breakers. After `close`, another `sharing` may take the place of the one that was
                closed.
        """
        check_names(settings)
        is_done = False
        while not is_done:  # again if another thread has changed others meanwhile
            old = self._settings
            is_done = self._replace_settings(old, replace(old, **settings))

    @property
    def max_regions(self) -> int:
        """The number of breakers that the registry keeps."""
        return self._settings.max_regions

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
            self._subscribers.uses_tenants = old.uses_tenants
        old.retire()
        del forgotten  # not under the lock: their listeners are freed, and may run a user's code

    @contextmanager
    def isolated(self, **settings: Unpack[Settings]) -> Generator[Self, None, None]:
        """Set aside the breakers, the history and the listeners, and put them back; for tests.

        In the block, the registry is as new: it has no circuit, nobody listens, and nothing is
        shared or recorded. Functions that are decorated with it follow. What is set aside goes on
        meanwhile, for everybody that holds a part of it.

        Args:
            settings: The keywords of the registry, for the block; what is not given is as before.

        Raises:
            TypeError: A setting is unknown or has the wrong type.
            ValueError: A setting has a wrong value.
        """
        check_names(settings)
        settings.setdefault("sharing", None)
        inside = replace(self._settings, **settings)
        policies, allows = inside.policies_by_name(), inside.allows()
        _validate.first_reading(inside.clock)
        if inside.sharing is not None:
            inside.sharing.bind(self)
        subscribers = self._make_subscribers()
        subscribers.uses_tenants = self._subscribers.uses_tenants  # by functions that follow
        before = self._exchange(_Contents(inside, policies, allows, subscribers))
        try:
            yield self
        finally:
            self.close()
            if self._recording is not None:
                self._recording.close()
            self._exchange(before).subscribers.retire()
            if self._recording is not None and not self._recording.is_open:  # closed meanwhile
                self._recording.close()

    def close(self) -> None:
        """Stop sharing: the circuits go on alone, and waiting tasks look again."""
        if self._settings.sharing is not None:
            self._settings.sharing.close()

    async def aclose(self) -> None:
        """Stop sharing, in asyncio: as `close`, without holding up the event loop."""
        await asyncio.to_thread(self.close)

    def listen(
        self, listener: Listener, *, loop: asyncio.AbstractEventLoop | None = None
    ) -> Callable[[], None]:
        """Call a function with each state change of every circuit, those made later included.

        Args:
            listener: Takes one `StateChanged`, as with `CircuitBreaker.listen`, which also
                describes the threads in which it runs.
            loop: An asyncio event loop; the listener runs there instead, and nobody waits for it.

        Returns:
            A function that ends it.

        Raises:
            TypeError: The listener cannot be called, or is an `async def`; or the loop is not an
                event loop.
        """
        return self._subscribers.listeners.add(listener, loop)

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
                outage, as text; called in its own thread.

        Returns:
            The recording; `close` ends it, and so does `clear` of the registry.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: `limit` is not positive, or the file at the path is not a recording.
            OSError: The file cannot be written.
            RuntimeError: The registry records already, or another one of this process records to
                the same path.
        """
        _validate.check_type("path", path, str, Path)
        _validate.check_count("limit", limit)
        takes = "the text of a report"
        _validate.check_callable("on_outage", on_outage, takes, optional=True)
        if self._recording is not None and self._recording.is_open:
            raise RuntimeError("the registry records already: close that recording first")
        if self._recording is not None:  # it has failed, or is that of a parent process
            self._recording.close()
        place = Path(path).absolute()  # whatever the working directory will be
        report = None if on_outage is None else partial(report_outage, place, on_outage)
        recording = Recording(place, limit, self.now(), report)
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

    def on_tenant_throttled(
        self, listener: Callable[[TenantThrottled], object]
    ) -> Callable[[], None]:
        """Call a function whenever an answer throttles a tenant of any region, or ends that.

        Together with `breaker.tenants.throttle`, this lets processes share what they find out.

        Args:
            listener: Takes one `TenantThrottled`. It should be quick: the call whose answer it was
                waits for it. What it raises is logged.

        Returns:
            A function that ends it.

        Raises:
            TypeError: The listener cannot be called, or is an `async def`.
        """
        return self._subscribers.throttle_listeners.add(listener)

    def expect_tenants(self) -> None:
        """Take note that calls have tenants, for whoever shares what is known of them."""
        self._subscribers.uses_tenants = True

    def __iter__(self) -> Iterator[CircuitBreaker]:
        return iter(list(self._breakers.values()))

    def __len__(self) -> int:
        return len(self._breakers)

    def __contains__(self, region: object) -> bool:
        if not isinstance(region, str) or not region.strip():
            return False
        return self._settings.name(str.__str__(region)) in self._breakers

    # Changing settings

    def _replace_settings(self, old: CheckedSettings, new: CheckedSettings) -> bool:
        """Put new settings into force; False: the old ones are not in force any more."""
        policies, allows = new.policies_by_name(), new.allows()
        now = _validate.first_reading(new.clock)
        with lock:
            if self._settings is not old:
                return False
            breakers = self._all_breakers()
            new.check_replaces(old, breakers)
            if new.sharing is not None and new.sharing is not old.sharing:
                new.sharing.bind(self)
                for breaker in breakers:
                    new.sharing.adopt(breaker)
            self._settings, self._policies, self._allows = new, policies, allows
            if new.allowed_regions is not old.allowed_regions:
                self.aliases.clear()
            for breaker in breakers:
                self._configure_breaker(breaker)
            self._eviction_order.rebuild()
            self._evict(new.max_regions, now)
            return True

    # Finding and making

    def _exchange(self, contents: "_Contents") -> "_Contents":
        """Take other contents, and return those until now."""
        with lock:
            before = _Contents(
                self._settings,
                self._policies,
                self._allows,
                self._subscribers,
                self._breakers,
                self._eviction_order,
                dict(self._evicted),
                dict(self.aliases),
                self._recording,
                self._suspicious,
                self._has_evicted,
                self._eviction_is_logged,
            )
            self._recording, self._suspicious = contents.recording, contents.suspicious
            self._has_evicted = contents.has_evicted
            self._eviction_is_logged = contents.eviction_is_logged
            self._settings, self._subscribers = contents.settings, contents.subscribers
            self._policies, self._allows = contents.policies, contents.allows
            self._breakers = contents.breakers
            self._eviction_order = contents.eviction_order or EvictionOrder(self._breakers)
            self._evicted.clear()
            self._evicted.update(contents.evicted)
            self.aliases.clear()  # the same dict as before: the decorators hold it
            self.aliases.update(contents.aliases)
        return before

    def _make_subscribers(self, history: History | None = None) -> Subscribers:
        return Subscribers(self._readmit, history, self._name)

    def _find(self, region: str) -> CircuitBreaker:
        while True:
            settings = self._settings
            name = settings.name(region)
            self._check_allowed(name)
            with lock:
                breaker = self._breakers.get(name)
                if breaker is not None and self._settings is settings:
                    self._add_alias(region, breaker)
                    return breaker
            breaker = self._find_or_make(region, name, settings)
            if breaker is not None:
                return breaker

    def _check_allowed(self, name: str) -> None:
        shown = _validate.shown(name)
        try:
            is_allowed = bool(self._allows(name))
        except Exception as error:
            kind = _validate.kind_of(error)
            raise ValueError(f"allowed_regions raised {kind} for {shown}") from error
        if not is_allowed:
            raise ValueError(f"region {shown} is not one of the allowed regions")

    def _find_or_make(
        self, region: str, name: str, settings: CheckedSettings
    ) -> CircuitBreaker | None:
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
        if breaker is made and settings.normalize is canonical_region:
            self._log_if_suspicious(name)
        return breaker

    def _make(self, name: str, settings: CheckedSettings, now: float) -> CircuitBreaker:
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
        """Keep a breaker, unless those that are kept hold more; the caller holds the lock."""
        self._configure_breaker(breaker)
        self._record_breaker(breaker)
        # A name may be made up, and must not push out what is known of a region that is down.
        spares_proven = breaker.retention() not in (Retention.PROVEN, Retention.PINNED)
        if not self._evict(self._settings.max_regions - 1, now, spares_proven=spares_proven):
            breaker.is_evicted = self._has_evicted = True
            self._evicted[name] = breaker
            return
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
        if len(region) > LONGEST_NAME:
            return  # it is shortened again at the next call, and takes no memory until then
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

    def _evict(self, limit: int, now: float, *, spares_proven: bool = False) -> bool:
        """Evict breakers until `limit` are left, or only such as must stay.

        Returns:
            False if some were spared that are OPEN and whose region was in use.
        """
        if len(self._breakers) <= limit:
            return True
        changed, self._subscribers.changed_regions = self._subscribers.changed_regions, set()
        self._eviction_order.update(changed)
        while len(self._breakers) > limit:
            region = self._eviction_order.first(now)
            if region is None:
                return True
            if spares_proven and self._breakers[region].retention() is Retention.PROVEN:
                return False
            self._eviction_order.discard(region)
            breaker = self._breakers.pop(region)
            breaker.is_evicted = True
            self._evicted[region] = breaker
            self.aliases.clear()
            self._has_evicted = True
        return True

    def _log_if_suspicious(self, name: str) -> None:
        """Warn, once for each, of a region that looks like one of Genesys and is none."""
        with lock:
            is_known = name in self._suspicious or len(self._suspicious) >= _MOST_WARNINGS
            if is_known or not looks_like_region(name):
                return
            self._suspicious.add(name)
        log.log_unknown_genesys_region(name)

    def _log_first_eviction(self) -> None:
        if self._has_evicted and not self._eviction_is_logged:
            self._eviction_is_logged = True
            log.log_eviction(self._name, self._settings.max_regions)


@dataclass(frozen=True, slots=True)
class _Contents:
    """All that a registry holds: at first, its settings only."""

    settings: CheckedSettings
    policies: dict[str, BreakerPolicy]
    allows: Callable[[str], object]
    subscribers: Subscribers
    breakers: dict[str, CircuitBreaker] = field(default_factory=dict[str, CircuitBreaker])
    eviction_order: EvictionOrder | None = None
    evicted: Mapping[str, CircuitBreaker] = field(default_factory=dict[str, CircuitBreaker])
    aliases: Mapping[str, CircuitBreaker] = field(default_factory=dict[str, CircuitBreaker])
    recording: Recording | None = None
    suspicious: set[str] = field(default_factory=set[str])
    has_evicted: bool = False
    eviction_is_logged: bool = False


def _time_of(clock: Callable[[], float] | None) -> float:
    # Looked up at each use, so that freezegun can replace it.
    return time.monotonic() if clock is None else clock()


#: The registry that `@region_breaker` uses by default; it knows the Genesys regions.
default_registry = CircuitBreakerRegistry(normalize=canonical_region, name=DEFAULT_REGISTRY)
