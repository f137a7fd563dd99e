"""Replaying recorded outcomes: what a circuit with another policy would have done with them."""

from resilience.replay.compare import Comparison, compare
from resilience.replay.engine import Replayed, Transit, replay
from resilience.replay.incident import incident_reports, report_outage

__all__ = [
    "Comparison",
    "Replayed",
    "Transit",
    "compare",
    "incident_reports",
    "replay",
    "report_outage",
]
