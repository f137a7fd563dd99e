"""AttemptResults: what an attempt that has ended shows, and when its message is attempted again."""

import asyncio

from resilience.answers import requested_delay
from resilience.breaker import CircuitBreaker
from resilience.circuit_states import CircuitState
from resilience.classify import root_error
from resilience.errors import TenantThrottledError
from resilience.integrations.rabbitmq.concurrency import ConcurrencyLimit
from resilience.integrations.rabbitmq.disposition import Disposition, rejection_in
from resilience.integrations.rabbitmq.evidence import Beginning
from resilience.integrations.rabbitmq.handler import Attempt
from resilience.integrations.rabbitmq.next_message import GRACE_PERIOD
from resilience.integrations.rabbitmq.pacing import NO_TENANT, wait_asked_by
from resilience.integrations.rabbitmq.probing import Probing
from resilience.integrations.rabbitmq.turns import Kind, Turns
from resilience.integrations.rabbitmq.unacked import Delivery

# The most seconds that a message waits which was rejected while other code holds the probe's place.
_LONGEST_WAIT_FOR_PLACE = 1.0


class AttemptResults:
    """Takes note of the attempts of one region's queue.

    Args:
        breaker: The region's breaker.
        limit: The limit of the region's calls, with the evidence.
        turns: Whether a new message or one that has failed is next.
        probing: How many new messages a probe chooses from.
    """

    def __init__(
        self, breaker: CircuitBreaker, limit: ConcurrencyLimit, turns: Turns, probing: Probing
    ) -> None:
        self._breaker, self._limit = breaker, limit
        self._turns, self._probing = turns, probing

    def begin(self, delivery: Delivery) -> Beginning:
        """Return what is known when an attempt begins."""
        return self._limit.evidence.begin(delivery.failures)

    def note_success(self, delivery: Delivery, attempt: Attempt, beginning: Beginning) -> None:
        """Take note of an attempt after which the message is done with."""
        self._turns.succeeded(delivery.kind)
        if self._is_half_open():
            # A failed message might end the run of successes that closes the circuit.
            self._turns.new_is_next = True
        if delivery.failures.fails_by_itself:
            self._limit.evidence.doubt_known()
            self._limit.record_success()
        else:
            self._record_end(delivery, attempt, beginning)

    def note_error(self, delivery: Delivery, attempt: Attempt, beginning: Beginning) -> None:
        """Take note of an attempt after which the message goes to `on_error`."""
        self._record_end(delivery, attempt, beginning)

    def note_failure(self, delivery: Delivery, attempt: Attempt, beginning: Beginning) -> None:
        """Take note of an attempt that has failed, unless a circuit rejected it."""
        disposition, error = attempt
        region_failed = disposition is Disposition.REGION_FAILED
        if not isinstance(error, Exception) or disposition is Disposition.REJECTED:
            return
        if not _waits_for_tenant(delivery, error):
            self._turns.failed(delivery.kind)
        if beginning.is_probe and region_failed and delivery.kind is not Kind.FAILED:
            self._probing.failed += 1
        delivery.failures.note(error)
        delivery.is_given_up = False
        self._limit.evidence.record_failure(delivery.failures, beginning, counts=region_failed)

    def postpone(self, delivery: Delivery, attempt: Attempt) -> None:
        """Set when a message that stays unacked is attempted again."""
        disposition, error = attempt
        if _waits_for_tenant(delivery, error):
            return
        closed = self._limit.is_closed
        at_least = requested_delay(root_error(error)) or 0.0
        if isinstance(error, TenantThrottledError):
            at_least = error.retry_after
        rejection = rejection_in(error) if disposition is Disposition.REJECTED else None
        if rejection is not None and rejection.__cause__ is None:
            # It was not attempted.
            at_least = rejection.retry_after or 0.0
            if not closed:
                # It is as new as it was. Other code may hold the probe's place.
                wait = min(max(at_least, GRACE_PERIOD), _LONGEST_WAIT_FOR_PLACE)
                delivery.due = _now() + wait
                return
            # Another circuit, inside the handler, has rejected it.
        delivery.kind = Kind.FAILED
        delivery.waits_for_region = not delivery.failures.fails_by_itself and (
            disposition is Disposition.REGION_FAILED
            or (disposition is Disposition.REJECTED and not closed)
        )
        if delivery.waits_for_region and not closed:
            delivery.due = _now()  # The circuit decides when.
        else:
            delivery.postpone(_now(), at_least)

    def _record_end(self, delivery: Delivery, attempt: Attempt, beginning: Beginning) -> None:
        if delivery.failures.has_failed:
            self._limit.evidence.doubt_unanswered()
        self._limit.record_end(attempt, beginning.position)

    def _is_half_open(self) -> bool:
        return not self._limit.is_closed and self._breaker.state is CircuitState.HALF_OPEN


def _waits_for_tenant(delivery: Delivery, error: BaseException | None) -> bool:
    """Whether a message is as good as it was, and only its tenant has to wait."""
    return delivery.tenant != NO_TENANT and wait_asked_by(error) is not None


def _now() -> float:
    return asyncio.get_running_loop().time()
