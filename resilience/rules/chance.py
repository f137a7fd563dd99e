"""Chance: how long failures that come at random take to trip a circuit, in closed form.

The calls begin at random moments (a Poisson process), and each fails with the same chance. The
calls of one outcome may take longer than those of another: in the order in which they end, each
call has failed with that same chance again, whatever came before it.
"""

import math
from collections.abc import Callable
from itertools import count
from typing import Final

from resilience.policy import BreakerPolicy

# Up to this mean number of calls the recurrence is quick, and beyond it the approximation is exact.
_MOST_STEPS: Final = 20_000
# Calls leave the window slice by slice, so that it reaches back for half a slice less on average.
_MEAN_WINDOW: Final = 119 / 120
# Terms that are smaller than the greatest one by this factor do not matter for their sum.
_NEGLIGIBLE: Final = 1e-9
# No Poisson number is above its mean by more than as many times one plus its square root.
_NEVER_MORE: Final = 40


def mean_calls_until_streak(share: float, threshold: int) -> float:
    """Return the mean number of calls until as many have failed in a row.

    Args:
        share: The share of the calls that fail, from 0 to 1.
        threshold: How many in a row.
    """
    if share == 1:
        return threshold
    power = share**threshold
    return (1 - power) / (power * (1 - share)) if power else math.inf


def median_calls_until_streak(share: float, threshold: int) -> float:
    """Return the number of calls after which half of all streaks have come.

    Args:
        share: The share of the calls that fail, from 0 to 1.
        threshold: How many in a row.
    """
    mean = mean_calls_until_streak(share, threshold)
    if mean <= _MOST_STEPS:
        return _exact_median(share, threshold)
    # Rare events come after exponentially distributed times.
    return mean * math.log(2)


def _exact_median(share: float, threshold: int) -> int:
    """Step through the calls: a streak ends at one if it began right after a success."""
    begins = (1 - share) * share**threshold
    # The chance that there was no streak yet, after each number of calls.
    none_yet = [1.0] * threshold + [1 - share**threshold]
    while none_yet[-1] > 1 / 2:
        none_yet.append(none_yet[-1] - begins * none_yet[-1 - threshold])
    return len(none_yet) - 1


def trips_per_second(policy: BreakerPolicy, share: float, calls_per_second: float) -> float:
    """Return how often failures that come at random trip a circuit, where that is rare.

    Args:
        policy: Its streak and its failure rate are looked at; the other rules are not.
        share: The share of the calls that fail, from 0 to 1.
        calls_per_second: How many calls end in a second.
    """
    streaks = _streaks_per_second(policy, share, calls_per_second)
    return streaks + _rate_trips_per_second(policy, share, calls_per_second)


def _streaks_per_second(policy: BreakerPolicy, share: float, calls_per_second: float) -> float:
    goes_on = share
    if policy.streak_window is not None:  # and if the next call comes in time
        goes_on *= -math.expm1(-calls_per_second * policy.streak_window)
    begins = calls_per_second * share * (1 - goes_on)
    return float(begins * goes_on ** (policy.failure_threshold - 1))


def _rate_trips_per_second(policy: BreakerPolicy, share: float, calls_per_second: float) -> float:
    """Return how often a failure finds the window where its rate trips.

    The failures and the other calls in the window are two independent Poisson numbers.
    """
    threshold = policy.failure_rate_threshold
    calls = calls_per_second * policy.window * _MEAN_WINDOW
    if threshold is None or share in (0, 1) or calls * share == 0:
        return 0.0
    if share >= threshold and calls >= policy.minimum_calls:
        return calls_per_second * share  # as soon as there are enough calls, any failure trips
    mean_others = calls * (1 - share)
    log_failures, log_others = _log_poisson(calls * share), _log_poisson(mean_others)
    # There are hardly ever more others: nobody needs to look there.
    most_others = mean_others + _NEVER_MORE * (1 + math.sqrt(mean_others))

    def chance(failures: int) -> float:
        """Return the chance of this many failures, and of others with which one more trips."""
        in_all = min((failures + 1) / threshold + _NEGLIGIBLE, failures + 1 + most_others)
        most = math.floor(in_all) - failures - 1
        total = 0.0
        for others in range(most, max(0, policy.minimum_calls - failures - 1) - 1, -1):
            value = math.exp(log_failures(failures) + log_others(others))
            total += value
            # Below the mean they only become less likely, down to nothing.
            if value <= total * _NEGLIGIBLE and others <= mean_others:
                break
        return total

    most_likely = _most_likely_failures(policy, threshold, share, calls)
    # The first of them opens the circuit; without that, they would come in clumps.
    first_of_clump = max(0.1, 1 - share / threshold)
    return calls_per_second * share * first_of_clump * _sum_around(chance, round(most_likely))


def _most_likely_failures(
    policy: BreakerPolicy, threshold: float, share: float, calls: float
) -> float:
    """Return how many failures a window most likely holds where its rate trips."""
    if share >= threshold:
        return max(calls, policy.minimum_calls) * share
    # The window that is just bad enough has fewer calls, by how unlikely such a share is.
    unlikely = threshold * math.log(threshold / share)
    if threshold < 1:
        unlikely += (1 - threshold) * math.log((1 - threshold) / (1 - share))
    return threshold * max(policy.minimum_calls, calls * math.exp(-unlikely))


def _log_poisson(mean: float) -> Callable[[int], float]:
    log_mean = math.log(mean)
    return lambda number: number * log_mean - mean - math.lgamma(number + 1)


def _sum_around(term: Callable[[int], float], peak: int) -> float:
    """Return the sum of terms that fall on both sides of a peak, which is about there."""
    total = 0.0
    for numbers in (count(peak), range(peak - 1, -1, -1)):
        greatest = previous = 0.0
        for number in numbers:
            value = term(number)
            total += value
            greatest = max(greatest, value)
            if value <= min(previous, greatest * _NEGLIGIBLE):
                break
            previous = value
    return total
