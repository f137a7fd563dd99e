"""What a gated loop does around its attempts, by tenacity's own hooks.

Of these hooks only `before` is called for an attempt that goes well, and `accepted` where a budget
is set.
"""

from typing import cast

from tenacity import BaseRetrying, RetryCallState

from resilience import scope
from resilience.circuit_states import CircuitState
from resilience.classify import TOO_MANY_REQUESTS, examine, is_throttled, status_of
from resilience.outcome import Outcome
from resilience.permit import Permit
from resilience.retry.budget import Payment, RetryBudget
from resilience.retry.conditions import error_of
from resilience.tenant_call import TenantCall, call_of_tenant

# tenacity forgets the error of an attempt before the next one begins.
_LAST_ERROR = "resilience_last_error"
# What the next retry of a running loop was paid with, and then the one that runs.
_PAYMENT = "resilience_payment"


class Hooks:
    """The hooks of one loop.

    Args:
        count_per: "call": the circuit counts the call; "attempt": it counts each failed attempt.
        budget: Bounds the share of retries; None: no bound.
    """

    def __init__(self, count_per: str = "call", budget: RetryBudget | None = None) -> None:
        self._counts_attempts = count_per == "attempt"
        self._reports_to_tenants = False
        # Whether `after` looks at the error of an attempt.
        self._looks_at_errors = self._counts_attempts
        self._budget = budget
        #: Whether `count_attempt` has anything to do.
        self.counts = self._counts_attempts or budget is not None
        #: Whether `accepted` has anything to do.
        self.has_budget = budget is not None
        #: Called before a first attempt; None: there is nothing to count.
        self.count_call = None if budget is None else self._count_call

    def enclosing_call(self) -> scope.ProtectedCall | None:
        """Return the innermost call that the loop stops with; None outside of any."""
        return scope.current()

    def report_to_tenants(self) -> None:
        """Report failed attempts to the call of a tenant that they are part of."""
        self._reports_to_tenants = self._looks_at_errors = True

    def check_circuits(self, state: RetryCallState) -> None:
        """Let no attempt start that a circuit does not allow."""
        is_first = state.attempt_number == 1
        call = scope.blocking_call(first=is_first)
        if call is not None:
            raise _rejection(call, vars(state).get(_LAST_ERROR))

    def start_attempt(self, state: RetryCallState) -> None:
        """Check the circuits for the last time before an attempt, and forget the one before it."""
        self.check_circuits(state)
        vars(state).pop(_LAST_ERROR, None)  # its frames refer to the state

    def check_first(self) -> None:
        """Let no first attempt start that a circuit does not allow, and count it."""
        call = scope.blocking_call(first=True)
        if call is not None:
            raise _rejection(call, None)
        if self.count_call is not None:
            self.count_call()

    def count_attempt(self, state: RetryCallState) -> None:
        """Check the circuits again, and note that an attempt starts."""
        self.start_attempt(state)
        payment = payment_of(state.retry_object)
        if payment is not None:
            payment.is_used = True
        permit = current_permit()
        if permit is None:
            return
        if state.attempt_number > 1:
            permit.attempt_started()
        elif self.count_call is not None:
            self.count_call()

    def _count_call(self) -> None:
        permit = current_permit()
        if permit is not None and self._budget is not None:
            self._budget.count_call(permit.breaker)

    def after(self, state: RetryCallState) -> None:
        """Look at a failed attempt, before it is decided whether there is another one."""
        error = error_of(state)
        if error is not None and not isinstance(error, Exception):
            raise error  # a cancellation, which no condition of a user's may swallow
        vars(state)[_LAST_ERROR] = error
        if not self._looks_at_errors or error is None:
            return
        permit = current_permit()
        if permit is None:
            return
        if self._reports_to_tenants and (tenant_call := call_of_tenant(permit)) is not None:
            tenant_call.attempt_failed(error)
        if self._counts_attempts and permit.judge().of_error(error).outcome is Outcome.FAILURE:
            permit.attempt_failed(error)

    def stop(self, state: RetryCallState) -> bool:
        """Return whether the loop ends, because its circuit or its budget allows no retry."""
        if scope.blocking_call(first=False) is not None:
            return True
        if self._budget is None:
            return False
        permit = current_permit()
        if permit is None:
            return False
        payment = self._budget.pay(permit.breaker, throttled=_is_throttled(state))
        setattr(state.retry_object, _PAYMENT, payment)
        return payment is None

    def accepted(self, state: RetryCallState) -> None:
        """Look at the attempt after which the loop ends by its own condition."""
        payment = payment_of(state.retry_object)
        if payment is not None and error_of(state) is None:
            payment.refund()


def payment_of(loop: BaseRetrying) -> Payment | None:
    """Return what a running loop has paid last for a retry; None: nothing."""
    payment: Payment | None = getattr(loop, _PAYMENT, None)
    return payment


def refund_unused(loop: BaseRetrying) -> None:
    """Give back what a loop that has ended has paid for a retry that never began."""
    payment = payment_of(loop)
    if payment is not None and not payment.is_used:
        payment.refund()


def current_permit() -> Permit | None:
    """Return the permit of the innermost protected call; None outside of any."""
    call = scope.current()
    return call if isinstance(call, Permit) else None


def _is_throttled(state: RetryCallState) -> bool:
    """Return whether the server refused an attempt since there were too many of them."""
    error = error_of(state)
    if error is not None:
        _, root, status = examine(error)
        return is_throttled(root, status)
    result = None if state.outcome is None else state.outcome.result()
    return status_of(result) == TOO_MANY_REQUESTS


def _rejection(call: scope.ProtectedCall, last_error: BaseException | None) -> BaseException:
    """Return the error with which a loop ends that may make no further attempt."""
    if not isinstance(call, Permit):  # there is nothing else in the scope
        throttled = cast("TenantCall", call).rejection()
        throttled.__cause__ = last_error
        return throttled
    if last_error is not None and scope.blocking_call(first=True) is None:
        # A probe has made its one attempt, and a user's own stop condition has let it go on.
        return last_error
    rejection = call.breaker.rejection()
    if rejection.state is CircuitState.CLOSED and last_error is not None:
        return last_error  # the circuit has closed in this very moment
    rejection.__cause__ = last_error
    return rejection
