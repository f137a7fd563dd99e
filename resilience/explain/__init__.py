"""What a policy does before it does it: scenarios on virtual time, and figures in plain words."""

from resilience.explain.figures import explain
from resilience.explain.scenario import Phase, Scenario
from resilience.explain.simulation import Simulation, simulate
from resilience.explanation import Explanation, Opening

__all__ = ["Explanation", "Opening", "Phase", "Scenario", "Simulation", "explain", "simulate"]
