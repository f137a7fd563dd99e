"""Random policies run for real do what `explain` and `simulate` say; 1,000 in `make explain`."""

import math

import pytest
from loguru import logger

from resilience.explain import simulate
from tests.support import agreement

# Enough for the medians to mean something, and few enough for every commit.
POLICIES = 40
# Where each run is compared by itself, fewer are enough.
COMPARED = 10


@pytest.fixture(scope="module", autouse=True)
def no_log():
    """Keep thousands of lines out of the reports."""
    logger.disable("resilience")
    yield
    logger.enable("resilience")


def test_policies_take_as_long_as_explained_in_the_median():
    medians = agreement.compare_all(range(POLICIES))
    # What takes long by chance alone lies further from its median in few runs: half of the requests
    # that fail are left to `make explain`.
    few = ("simulate", "errors_50")
    explained = {name: ratio for name, (ratio, _) in medians.items()}
    for name, ratio in explained.items():
        if any(word in name for word in few):
            continue
        least = 0.1 if "errors" in name else 0.05
        assert ratio == pytest.approx(1, abs=least), name


@pytest.mark.parametrize("situation", agreement.SITUATIONS)
def test_a_simulation_is_the_real_run_request_for_request(situation):
    phase = agreement.SITUATIONS[situation]
    compared = 0
    for number in range(COMPARED):
        case, seed = agreement.make_case(number), f"{number} 0"
        real = agreement.run_for_real(case, phase, seed)
        if real.opened_at < math.inf:
            simulated = simulate(case.policy, agreement.scenario(case, phase, real), seed=seed)
            assert simulated.opens_after == pytest.approx(real.opened_at, rel=1e-6), number
            assert simulated.requests_until_open == real.requests_until_open, number
            compared += 1
    assert compared > COMPARED / 4
