"""The rules in a circuit that other processes share."""

from resilience import Backoff, BreakerPolicy, CircuitBreaker
from resilience.outcome import Outcome, Report
from resilience.shared_circuit import SharedCircuit
from resilience.shared_record import RecordState, RecordView


def circuit_of(**policy):
    return SharedCircuit(BreakerPolicy(**policy), 0, lease=5, notify=bool)


def opened(version):
    return RecordView(version=version, state=RecordState.OPEN, by="another", reason="down")


def test_rates_are_the_process_s_own():
    circuit = circuit_of(failure_rate_threshold=0.5, minimum_calls=2)
    assert circuit.times_calls() is circuit.state
    for _ in range(2):
        circuit.record(circuit.acquire(0), Report(Outcome.FAILURE, "ServerError 503"), 0)
    assert circuit.state.reason.startswith("failure rate 100 % of 2 calls")


def test_after_a_fork_the_first_call_is_left_to_acquire():
    circuit = circuit_of(failure_rate_threshold=0.5)
    circuit.forked()
    assert circuit.times_calls() is None
    circuit.acquire(0)
    assert circuit.times_calls() is circuit.state


def test_a_failed_probe_of_another_process_makes_the_next_wait_longer():
    circuit = circuit_of(recovery_timeout=Backoff(10, 2, 100))
    assert circuit.opening_lasts() == 10
    circuit.on_record(opened(1), 0)
    assert (circuit.retry_after(0), circuit.opening_lasts()) == (10, 10)
    circuit.on_record(opened(2), 12)
    assert (circuit.retry_after(12), circuit.opening_lasts()) == (20, 20)


def test_a_close_by_another_process_begins_a_ramp_and_a_reset_does_not():
    for reason, limit in (("recovered", 3), ("reset by hand", None)):
        circuit = circuit_of(ramp=(3, 2))
        circuit.on_record(opened(1), 0)
        view = RecordView(version=2, state=RecordState.CLOSED, by="another", reason=reason)
        circuit.on_record(view, 61)
        ramp = getattr(circuit.state, "ramp", None)
        assert (ramp and ramp.limit) == limit


def test_another_thread_may_deliver_a_change_and_has_nothing_to_do_without_one(clock):
    breaker = CircuitBreaker("eu-west-1", BreakerPolicy(cancel_stranded=True), clock=clock)
    heard, deliveries = [], []
    breaker.listen(heard.append)
    breaker.apply(lambda _now: None, deliveries.append)
    assert deliveries == []
    breaker.apply(lambda now: breaker.circuit.force_open("maintenance", now), deliveries.append)
    assert (breaker.state, heard) == ("OPEN", [])
    deliveries[0]()
    assert [event.new for event in heard] == ["OPEN"]


def test_a_call_that_hangs_opens_the_circuit_with_the_next_call():
    circuit = circuit_of(failure_threshold=1, stranded_after=10)
    circuit.acquire(0)
    circuit.acquire(9)
    assert circuit.state.name.value == "CLOSED"
    circuit.acquire(10)
    assert circuit.state.name.value == "OPEN"
