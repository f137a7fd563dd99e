"""A backlog after an outage, on virtual time; `benchmarks.simulate_drain` runs it."""
