"""The rules, other than the streak of failures, that trip a circuit: pure, and opt-in."""
