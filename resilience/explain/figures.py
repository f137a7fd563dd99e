"""explain: the figures of a policy, in closed form where there is one, else by simulation."""

import math
from dataclasses import dataclass
from statistics import median
from typing import Final

from resilience._validate import check_count, check_seconds
from resilience.explain.engine import Engine
from resilience.explain.scenario import Phase, Scenario, time_to_fail
from resilience.explanation import Explanation, Opening
from resilience.policy import BreakerPolicy
from resilience.rules.chance import median_calls_until_streak, trips_per_second

_MONTH: Final = 30 * 86_400.0
_FOREVER: Final = 1e30  # seconds; no phase may be infinite
# Simulations of one situation: how many, and how many calls in all of them and in each.
_MOST_RUNS, _FEWEST_RUNS = 41, 3
_ENOUGH_CALLS, _MOST_CALLS = 12_000, 4_000
# What takes more calls than this on average is too rare to be simulated.
_RARE: Final = 2_000
# As many calls are more than a beginning, and such a share of calls without room does not matter.
_STEADY, _HARDLY = 100, 0.01
# The smallest share of failed requests that is of interest, and the precision of its logarithm.
_LEAST_SHARE, _STEPS, _PRECISION = 1e-6, 60, 1e-3


@dataclass(frozen=True, slots=True)
class _Traffic:
    """How a policy is used."""

    policy: BreakerPolicy
    attempts: int
    call_timeout: float | None
    calls_per_second: float
    concurrency: int

    def scenario(self, phase: Phase) -> Scenario:
        return Scenario(
            phases=(phase,),
            calls_per_second=self.calls_per_second,
            concurrency=self.concurrency,
            attempts=self.attempts,
            request_timeout=self.call_timeout,
        )


def explain(
    policy: BreakerPolicy,
    *,
    attempts: int = 5,
    call_timeout: float | None = 10.0,
    calls_per_second: float = 10.0,
    concurrency: int = 100,
) -> Explanation:
    """Return what a policy means; `BreakerPolicy.explain` describes it."""
    check_count("attempts", attempts)
    if call_timeout is not None:
        check_seconds("call_timeout", call_timeout)
    check_seconds("calls_per_second", calls_per_second)
    check_count("concurrency", concurrency)
    traffic = _Traffic(policy, attempts, call_timeout, calls_per_second, concurrency)
    return Explanation(
        attempts=attempts,
        call_timeout=call_timeout,
        calls_per_second=calls_per_second,
        concurrency=concurrency,
        full_outage=_simulate(traffic, Phase(seconds=_FOREVER, failure_rate=1.0)),
        black_hole=_simulate(traffic, Phase(seconds=_FOREVER, hang_rate=1.0)),
        errors_90=_opening(traffic, 0.9),
        errors_50=_opening(traffic, 0.5),
        closes_after=_time_to_close(traffic),
        longest_wait=_longest_wait(policy),
        healthy_error_rate=_healthy_error_rate(traffic),
        notes=tuple(_notes(traffic)),
    )


# Opening


def _opening(traffic: _Traffic, share: float) -> Opening:
    """Return when a share of failed requests opens the circuit."""
    phase = Phase(seconds=_FOREVER, failure_rate=share)
    policy, load = traffic.policy, _Load(traffic, phase)
    if _is_streak_only(policy):
        calls = median_calls_until_streak(load.share, policy.failure_threshold)
        if load.is_steady_for(calls):
            return load.opening(calls)
        return _simulate(traffic, phase)
    per_call = trips_per_second(policy, load.share, load.per_second) / load.per_second
    if per_call * _RARE < 1 and not _has_other_rules(policy):
        return load.opening(math.log(2) / per_call if per_call else math.inf)
    found = _simulate(traffic, phase)
    if found.after == math.inf and per_call:
        return load.opening(math.log(2) / per_call)
    return found


def _is_streak_only(policy: BreakerPolicy) -> bool:
    has_more = policy.watches_rates or policy.streak_window is not None
    return not has_more and not _has_other_rules(policy)


def _has_other_rules(policy: BreakerPolicy) -> bool:
    """Whether the circuit also opens by something else than failures and their rate."""
    rules = (policy.slow_call_rate_threshold, policy.call_timeout, policy.stranded_after)
    return any(rule is not None for rule in rules)


class _Load:
    """The calls that end while a share of the requests fails, in the long run.

    Calls that find no room are lost, as in Erlang's formula, which holds for any distribution of
    how long calls take.
    """

    def __init__(self, traffic: _Traffic, phase: Phase) -> None:
        share, attempts = phase.failure_rate, traffic.attempts
        #: The share of the calls that fail.
        self.share = share**attempts
        #: Seconds that a call takes that fails.
        self.time_to_fail = time_to_fail(attempts, phase.latency)
        spent = [time_to_fail(number, phase.latency) for number in range(1, attempts + 1)]
        # Each attempt: seconds from the beginning of the call, and the chance that it is made,
        # which is that all before it have failed.
        self._attempts = [(end - phase.latency, share**done) for done, end in enumerate(spent)]
        steps = [after - before for before, after in zip([0.0, *spent], spent, strict=False)]
        seconds = sum(share**number * step for number, step in enumerate(steps))
        offered = traffic.calls_per_second * seconds
        self._lost = _lost(offered, traffic.concurrency)
        #: Calls that end in a second. Where a float cannot hold the few that find room, all places
        #: are taken at any time.
        self.per_second = traffic.calls_per_second * (1 - self._lost) or (
            traffic.concurrency / seconds
        )

    def is_steady_for(self, calls: float) -> bool:
        """Whether this many calls are enough for the beginning to lose its weight.

        Where calls find no room, those that run end in bursts for a long time.
        """
        if self._lost > _HARDLY:
            return calls > _MOST_CALLS
        return calls > max(_STEADY, 3 * self.per_second * self.time_to_fail)

    def opening(self, calls: float) -> Opening:
        """Return the opening after this many calls; the first to fail needs its time."""
        after = self.time_to_fail + calls / self.per_second
        begun = sum(chance * max(0.0, after - begins) for begins, chance in self._attempts)
        return Opening(after=after, requests=self.per_second * begun)


def _lost(offered: float, places: int) -> float:
    """Return the share of calls that find no room: Erlang's formula B."""
    inverse = 1.0
    for place in range(1, places + 1):
        inverse = 1 + inverse * place / offered
        if inverse > 1e12:  # noqa: PLR2004 - nobody notices
            return 0.0
    return 1 / inverse


def _simulate(traffic: _Traffic, phase: Phase) -> Opening:
    scenario = traffic.scenario(phase)
    seconds: list[float] = []
    requests: list[float] = []
    calls = 0
    while len(seconds) < _MOST_RUNS and (len(seconds) < _FEWEST_RUNS or calls < _ENOUGH_CALLS):
        engine = Engine(traffic.policy, scenario, seed=len(seconds))
        engine.run(until_open=True, most_calls=_MOST_CALLS)
        calls += engine.calls
        has_opened = bool(engine.transitions)
        seconds.append(engine.now if has_opened else math.inf)
        requests.append(engine.requests_until_open() if has_opened else math.inf)
    return Opening(after=median(seconds), requests=median(requests))


# Closing


def _time_to_close(traffic: _Traffic) -> float:
    policy, latency = traffic.policy, Phase(seconds=1).latency
    backoff, gap = policy.backoff, 1 / traffic.calls_per_second
    places = min(policy.half_open_probes, traffic.concurrency)
    between_probes = max(gap, (gap + latency) / places)
    probing = gap + (policy.success_threshold - 1) * between_probes + latency
    return backoff.first * (1 + backoff.jitter / 2) + probing


def _longest_wait(policy: BreakerPolicy) -> float:
    backoff = policy.backoff
    if backoff.factor > 1 or policy.honor_retry_after:
        return backoff.maximum
    return backoff.first * (1 + backoff.jitter)


# Opening by chance


def _healthy_error_rate(traffic: _Traffic) -> float:
    """Return the share of failed requests at which the circuit opens once a month."""
    policy, per_second = traffic.policy, traffic.calls_per_second

    def is_too_often(log_share: float) -> bool:
        share = math.exp(log_share * traffic.attempts)
        return trips_per_second(policy, share, per_second) * _MONTH >= 1

    low = math.log(_LEAST_SHARE)
    width = -low / _STEPS
    logs = (low + number * width for number in range(_STEPS))
    high = next((log for log in logs if is_too_often(log)), 0.0)
    if high in (0.0, low):
        return math.exp(high)
    low = high - width
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (low, middle) if is_too_often(middle) else (middle, high)
    return math.exp(high)


# What the figures do not say


def _notes(traffic: _Traffic) -> list[str]:
    policy, notes = traffic.policy, list[str]()
    in_window = traffic.calls_per_second * policy.window
    if policy.watches_rates and in_window < policy.minimum_calls:
        notes.append(
            f"A window of {policy.window:g} s holds {in_window:.3g} calls on average, fewer than"
            f" minimum_calls={policy.minimum_calls}: its rates rarely count. Lower minimum_calls,"
            " or raise window"
        )
    if policy.streak_window is not None and traffic.calls_per_second * policy.streak_window < 1:
        notes.append(
            f"Calls are {1 / traffic.calls_per_second:.3g} s apart on average, longer than"
            f" streak_window={policy.streak_window:g}: streaks rarely grow. Raise streak_window"
        )
    if traffic.call_timeout is None and policy.call_timeout is None:
        notes.append(
            "Requests have no timeout: set one at the client, or call_timeout in the policy"
        )
    if policy.mode != "enforce":
        notes.append(f'With mode="{policy.mode}" no call is rejected')
    return notes
