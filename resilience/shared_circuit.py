"""SharedCircuit: a circuit that follows what other processes know.

A store keeps one record for each region (see shared_record.py). A synchronizer, which is not in
this file, stands between the circuits of a process and the store. It works next to the calls:

    +---------------+ -- notify ----------------------------------> +--------------+
    | SharedCircuit | <- next_command, next_command_in ------------ | synchronizer | <-> store
    +---------------+ <- on_reply, on_record, on_disconnect ------- +--------------+

    notify()                            There may be a new command. Called under the lock, and must
                                        not block.
    next_command(now)                   What the record should be changed to now, or None.
    on_reply(command, view, now)        The store has answered a command.
    on_record(view, now)                The store was read.
    next_command_in(now)                Seconds until there is a command without a notification.
    on_disconnect()                     The store is gone.
    final_command(now)                  What to give back before this process stops sharing.
    forked()                            This is the child of a fork now.
    share_again(lease, notify)          Another synchronizer takes over.
    notify_with_next_call()             There is no synchronizer: the next call should notify.

Like circuit.py this file is pure: it reads no clock, does no I/O and takes no lock. Its rules, in
addition to those of circuit.py:

1.  Each process decides by its own circuit, and what other processes know is one more input.
    Without the store each circuit goes on alone, as soon as the lease that it knows of has run out.
2.  Only a record with a higher version than the last one is followed. A lower version means that
    the store has lost its data, and that its clock may have been ahead before: a record is followed
    then if it tells of something that has happened after this process learned its last version.
    Otherwise a process that knows of an opening or of a lease writes it again. Each command carries
    the version that was known when it was decided.
3.  An opening by another process opens this circuit for the rest of the recovery timeout. Where
    another process probes, this circuit opens too, and is due. A close is followed unless this
    circuit opened after it; then this circuit trips once more.
4.  Until the fleet has agreed to an opening, it concerns this process only, which probes alone.
5.  In HALF_OPEN the whole fleet has one lease for probes. A due call, or a caller that waits,
    requests the lease and is rejected. The next call that finds the lease here is a probe. The
    process that opened the circuit requests it later than the others: it may itself be unhealthy.
    In a large fleet each process leaves the others a head start, since the store cannot answer all
    of them at the same moment.
6.  A call that comes much later than its `retry_after` is rare. It probes immediately, and requests
    the lease at the same time, so that rare calls recover too. Where another process had the lease
    a moment ago, only the next such call does so. A call whose request was not answered in time
    probes as well. If another process turns out to hold the lease, such a probe is late.
7.  The holder makes the remaining probes, reports each success to the store (ANSWERED counts as
    one), and renews the lease only while a probe runs within its time-out. It gives the lease back
    when no call comes, or when its probe hangs, and then requests it later than the others. The
    result of a probe whose lease has run out meanwhile counts for nothing.
8.  A forced opening and a reset concern the whole fleet.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

from resilience.circuit import RESET, Circuit, Rejection
from resilience.circuit_states import Closed, HalfOpen, Open, Probe, State, Ticket, TrackedClosed
from resilience.outcome import Outcome, Report
from resilience.policy import BreakerPolicy
from resilience.shared_lease import (
    ANSWER_TIMEOUT,
    HEAD_START,
    UNUSED_LEASE,
    DueCalls,
    Lease,
    is_any_running,
    time_left,
)
from resilience.shared_record import Change, Command, RecordState, RecordView
from resilience.shared_tenant_table import SharedTenantTable

# Seconds. A call that is rejected while another process holds the lease should come back soon.
_MAX_WAIT_FOR_LEASE: Final = 1.0
# Seconds. A reset that did not reach the store in time is dropped if the fleet has moved on.
_RESET_LASTS: Final = 5.0
# The report of a probe whose lease has run out.
_TOO_LATE: Final = Report(Outcome.IGNORED, "longer than the lease")


class SharedCircuit(Circuit):
    """One region's circuit in one process of a fleet, by the rules above.

    Args:
        policy: The thresholds.
        now: Seconds; the circuit starts CLOSED at this moment.
        lease: Seconds that the fleet's lease for probes lasts without being renewed.
        notify: Called when there may be a new command. Runs under the lock, and must not block.
    """

    def __init__(
        self, policy: BreakerPolicy, now: float, *, lease: float, notify: Callable[[], object]
    ) -> None:
        super().__init__(policy, now)
        self._notify = notify
        #: Whether the store answers and takes writes.
        self.shared: bool | None = False
        #: The version of the record that was seen last.
        self.version = 0
        #: Seconds that this process leaves the others to request the lease, once it is free.
        self.head_start = 0.0
        #: What is known of the region's tenants; None: nobody has used it.
        self.tenant_table: SharedTenantTable | None = None
        self._version_known_since = now
        self._record_state = RecordState.ABSENT
        self._lease = Lease(lease)
        self._due_calls = DueCalls()
        # There is no synchronizer until a call notifies: after a fork, or for lack of threads.
        self._next_call_notifies = False

        # The state of this circuit that the store knows of; None: it knows of none.
        self._stored_state: State | None = self.state
        # How many of the successes counted here the record has.
        self._stored_successes = 0
        # The fleet has agreed to this opening, and had agreed to the one that was closed last.
        self._is_agreed = False
        self._was_agreed = False
        # The record has a vote of this process, below the quorum.
        self._has_voted = False
        # The record was opened by this process.
        self._is_opener = False
        # RESET or FORCE, until it has reached the store.
        self._manual_change: Change | None = None
        self._manual_change_at = 0.0

    @property
    def holds_lease(self) -> bool:
        """Whether this process holds the lease, as far as it knows."""
        return self._lease.mine

    def is_outdated(self, version: int) -> bool:
        """Whether a record of this version may say what this circuit does not know.

        Args:
            version: The version, as it was announced.
        """
        return version > self.version or self._record_state is RecordState.ABSENT

    def make_tenant_table(self) -> SharedTenantTable:
        """Return the table for what the fleet knows of the region's tenants, always the same."""
        table = self.tenant_table
        if table is None:
            table = SharedTenantTable(lease=self._lease.duration, notify=self._notify)
            self.tenant_table = table
            self._notify()  # what others know of the tenants is to be read
        return table

    # Calls

    def acquire(self, now: float) -> Ticket | Rejection:
        """Admit a call, or reject it; a due one requests the fleet's lease."""
        if self._next_call_notifies:
            self._next_call_notifies = False
            self._notify()
        self.follow_clock(now)
        if self.policy.stranded_after is not None:
            self.count_stranded(now)
        state = self.state
        if isinstance(state, Closed):
            return self.start_call(state, now)
        wait = self.expects_call(now)
        if wait != 0.0:
            return self.count_rejection(state, wait, now)
        probe = self.start_probe(state, now)
        self._lease.use(now)
        if self._lease.mine:
            self._due_calls.late_in_a_row = 0
        if isinstance(state, Open) and isinstance(self.state, HalfOpen):
            self._continue_count(self.state)
        return probe

    def reject(self, now: float) -> Open | None:
        """Reject a call of an OPEN circuit; one that must notify is left to `acquire`."""
        return None if self._next_call_notifies else super().reject(now)

    def admits_without_asking(self) -> Closed | None:
        """Return the CLOSED state; a call that must notify is left to `acquire`."""
        return None if self._next_call_notifies else super().admits_without_asking()

    def times_calls(self) -> TrackedClosed | None:
        """Return the CLOSED state; a call that must notify is left to `acquire`."""
        return None if self._next_call_notifies else super().times_calls()

    def expects_call(self, now: float) -> float | None:
        """Return `retry_after` for a caller that means to call; a due one requests the lease."""
        if not self._is_due(now):
            return self.retry_after(now)
        calls = self._due_calls
        calls.note(now)
        self._lease.adapt_to_calls(now - calls.last_at)
        wait = self._wait_for_lease(now)
        if self._may_request_lease(now):
            # A call that is admitted now must not make the next one wait for the answer.
            calls.requested_at = now if wait else now - ANSWER_TIMEOUT
            self._notify()
        calls.answer(now, wait)
        return wait

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until a call may be admitted, here and in the fleet."""
        return self._wait_for_lease(now) if self._is_due(now) else super().retry_after(now)

    def record(self, ticket: Ticket, report: Report, now: float) -> None:
        """Count the result of a call, unless its ticket is late or its lease has run out."""
        state = self.state
        is_holder = self._lease.mine and isinstance(state, HalfOpen)
        if is_holder and self.shared and not self._lease.is_valid(now):
            report = _TOO_LATE  # rule 7
        super().record(ticket, report, now)
        has_changed = self.state is not state
        if has_changed:
            self._was_agreed = self._is_agreed
            self._begin_state(agreed=self._is_agreed and isinstance(self.state, Open))
        if has_changed or is_holder:
            self._lease.use(now, was_cancelled=report.outcome is Outcome.IGNORED)
            self._notify()

    def reset(self, now: float) -> None:
        """Close the circuit by hand, here and in the fleet."""
        super().reset(now)
        self._begin_state(agreed=False)
        self._change_by_hand(Change.RESET, now)

    def force_open(self, reason: str, now: float) -> None:
        """Open the circuit by hand, here and in the fleet."""
        state = self.state
        super().force_open(reason, now)
        if self.state is not state:
            self._change_by_hand(Change.FORCE, now)

    def follow_clock(self, now: float) -> None:
        """Start the running times again if the clock has stepped back behind their start."""
        super().follow_clock(now)
        self._lease.follow_clock(now)
        self._due_calls.follow_clock(now)
        self._version_known_since = min(self._version_known_since, now)

    # The fleet's lease: rules 4 to 7

    def _is_due(self, now: float) -> bool:
        """Whether a call would be admitted here if this process were alone."""
        return not isinstance(self.state, Closed) and super().retry_after(now) == 0.0

    def _wait_for_lease(self, now: float) -> float:
        """Return the seconds until a due call may probe."""
        lease, calls = self._lease, self._due_calls
        if lease.is_valid(now) and not lease.is_to_be_returned(self._probes(), now):
            return 0.0
        if left := lease.left(now):  # also when the store has gone meanwhile
            return min(left, _MAX_WAIT_FOR_LEASE)
        if not (self.shared and self._is_agreed):
            return 0.0
        if wait := self._head_start_of_others(now):
            return wait
        if calls.requested_at is not None:
            return time_left(calls.requested_at, ANSWER_TIMEOUT, now)
        # A process that has held the lease does not know yet whether another one holds it now.
        may_probe_without_lease = calls.are_rare(now) and not lease.mine
        # In a large fleet many processes call rarely, each of them by itself: where one has just
        # had the lease, the others request it once more before they probe.
        was_free = calls.late_in_a_row > 1 or now - lease.taken_until > UNUSED_LEASE
        return 0.0 if may_probe_without_lease and was_free else ANSWER_TIMEOUT

    def _may_request_lease(self, now: float) -> bool:
        if not (self.shared and self._is_agreed) or self._due_calls.requested_at is not None:
            return False
        return not self._lease.left(now) and not self._head_start_of_others(now)

    def _head_start_of_others(self, now: float) -> float:
        """Return the seconds until this process may request the lease as well."""
        state = self.state
        due_at = state.until if isinstance(state, Open) else state.since
        as_opener = time_left(due_at, HEAD_START, now) if self._is_opener else 0.0
        as_one_of_many = time_left(max(due_at, self._lease.taken_until), self.head_start, now)
        as_last_holder = time_left(self._lease.returned_at, HEAD_START, now)
        return max(as_opener, as_one_of_many, as_last_holder)

    def _continue_count(self, state: HalfOpen) -> None:
        """Go on with the successes that the lease came with."""
        if not self._lease.mine:
            self._stored_successes = 0
        state.successes = self._stored_successes

    def _probes(self) -> Sequence[Probe]:
        return self.state.probes if isinstance(self.state, HalfOpen) else ()

    def _successes(self) -> int:
        return self.state.successes if isinstance(self.state, HalfOpen) else 0

    # What the store does not know yet

    def next_command(self, now: float) -> Command | None:
        """Return how the record should be changed now, if at all."""
        state = self.state
        if self._manual_change is not None:
            return self._command(self._manual_change, now)
        if isinstance(state, Closed):
            return self._next_command_closed(now)
        if isinstance(state, Open) and self._stored_state is not state and not state.is_forced:
            if now < state.until:
                return self._command(self._change_that_opens(now), now)
            self._stored_state = state  # it is over before the store knew of it
        if self._due_calls.requested_at is not None:
            return self._command(Change.TAKE, now)
        return self._next_command_as_holder(now) if self._lease.mine else None

    def _next_command_closed(self, now: float) -> Command | None:
        if self._stored_state is self.state:
            return None
        is_open = self._record_state in (RecordState.OPEN, RecordState.HALF_OPEN)
        was_lost = self._was_agreed and self._record_state is RecordState.ABSENT
        if is_open or was_lost:
            return self._command(Change.CLOSE, now)
        if self._has_voted:
            return self._command(Change.WITHDRAW, now)
        self._stored_state = self.state
        return None

    def _change_that_opens(self, now: float) -> Change:
        is_free = self._lease.mine or self._lease.left(now) == 0.0
        probe_has_failed = self._record_state is RecordState.OPEN or (
            self._record_state is RecordState.HALF_OPEN and is_free
        )
        return Change.REOPEN if probe_has_failed else Change.TRIP

    def _next_command_as_holder(self, now: float) -> Command | None:
        has_new_success = self._successes() > self._stored_successes
        if self._record_state is not RecordState.HALF_OPEN or has_new_success:
            return self._command(Change.RENEW, now)
        if self.next_command_in(now) > 0.0:
            return None
        runs = is_any_running(self._probes(), now)
        return self._command(Change.RENEW if runs else Change.RELEASE, now)

    def next_command_in(self, now: float) -> float:
        """Return the seconds until a process that holds the lease has a command; else infinity."""
        if not self._lease.mine:
            return math.inf
        return self._lease.next_action_in(self._probes(), now)

    def final_command(self, now: float) -> Command | None:
        """Return what to give back before this process stops sharing."""
        if self._lease.mine:
            return self._command(Change.RELEASE, now)
        return self._command(Change.WITHDRAW, now) if self._has_voted else None

    def _command(self, change: Change, now: float) -> Command:
        state = self.state
        return Command(
            change=change,
            version=self.version,
            age=max(0.0, now - state.since),
            successes=max(self._successes(), self._stored_successes),
            reason=RESET if change is Change.RESET else state.reason or "recovered",
            about=state,
        )

    def _change_by_hand(self, change: Change, now: float) -> None:
        self._manual_change = change
        self._manual_change_at = now
        self._notify()

    def _begin_state(self, *, agreed: bool) -> None:
        """Forget what concerned the state before: requests, and successes."""
        self._is_agreed = agreed
        self._stored_successes = 0
        self._due_calls = DueCalls()

    # What the store knows

    def on_reply(self, command: Command, view: RecordView, now: float) -> None:
        """Follow the store's answer to a command."""
        if command.change is Change.TAKE:
            self._due_calls.requested_at = None
        elif command.change is Change.RELEASE:
            self._lease.returned_at = now
        if command.change is self._manual_change and view.done:
            self._on_manual_change_done(command.change, view, now)
            return
        has_moved_on = view.version > self.version
        self.on_record(view, now)
        if command.about is not self.state:
            return
        was_counted = command.change is Change.TRIP and view.done
        self._has_voted = was_counted and self._record_state is RecordState.CLOSED
        # A command that was refused because the fleet had moved on is decided again.
        if view.done or not has_moved_on:
            self._stored_state = command.about

    def _on_manual_change_done(self, change: Change, view: RecordView, now: float) -> None:
        self._manual_change = None
        self._is_agreed = change is Change.FORCE
        self._see(view, now)
        # A circuit that has opened since its reset reports that next.
        self._stored_state = None if isinstance(self.state, Open) else self.state

    def on_record(self, view: RecordView, now: float) -> None:
        """Follow the record, as it was read."""
        self.shared = True
        if view.state is RecordState.ABSENT or self._is_left_over(view, now):
            self._on_lost_record(now)
            return
        is_news = (view.version, view.state) != (self.version, self._record_state)
        was_holder = self._lease.mine
        self._see(view, now)
        if view.lease_is_mine:
            self._on_lease(view, now, is_new=not was_holder)
            return
        if view.lease_left > 0.0 and isinstance(self.state, HalfOpen):
            self.state.probes = []  # rule 6
        if is_news and not self._manual_change_stands(now):
            self._manual_change = None
            self._follow(view, now)

    def on_disconnect(self) -> None:
        """Go on alone: the store is gone, and so is the answer to a request for the lease."""
        self.shared = False
        self._due_calls.requested_at = None
        if self.tenant_table is not None:
            self.tenant_table.on_disconnect()

    def forked(self) -> None:
        """Be another process from now on, which holds nothing that its parent holds."""
        self.shared = False
        self.notify_with_next_call()
        self._lease.mine = False
        self._has_voted = False
        self._is_opener = False
        self._due_calls.requested_at = None
        self._stored_state = self.state
        self._manual_change = None
        if self.tenant_table is not None:
            self.tenant_table.forked()

    def share_again(self, *, lease: float, notify: Callable[[], object]) -> None:
        """Be shared by another synchronizer, which may use another store.

        Args:
            lease: As for a new circuit.
            notify: As for a new circuit.
        """
        manual_change = self._manual_change
        self.forked()
        # A change by hand that no store knows yet, and an opening, are news for this one.
        self._manual_change = manual_change
        self._stored_state = self.state if isinstance(self.state, Closed) else None
        self._notify = notify
        self._lease = Lease(lease)
        self.version = 0
        self._record_state = RecordState.ABSENT
        if self.tenant_table is not None:
            self.tenant_table.share_again(lease=lease, notify=notify)

    def notify_with_next_call(self) -> None:
        """Let the next call notify, whatever it does: it starts the synchronizer."""
        self._next_call_notifies = True

    def _is_left_over(self, view: RecordView, now: float) -> bool:
        """Whether the record is from before what this process knows: rule 2."""
        happened_at = now - view.delay - view.age
        return view.version < self.version and happened_at < self._version_known_since

    def _see(self, view: RecordView, now: float) -> None:
        is_news = view.version != self.version
        self._lease.update(view, now, is_news=is_news)
        if is_news:
            self._version_known_since = now
        self.version = view.version
        self._record_state = view.state

    def _manual_change_stands(self, now: float) -> bool:
        """Whether a change by hand is still to be written, whatever others did meanwhile."""
        if self._manual_change is Change.RESET:
            return now - self._manual_change_at <= _RESET_LASTS
        return self._manual_change is Change.FORCE

    def _on_lost_record(self, now: float) -> None:
        """Prepare to write again what this process knows."""
        state = self.state
        self._record_state = RecordState.ABSENT
        self._has_voted = False
        if isinstance(state, Closed):
            self._lease.mine = False
        elif isinstance(state, Open):
            self._stored_state = None
            if state.is_forced and self._is_agreed:
                self._change_by_hand(Change.FORCE, now)

    def _on_lease(self, view: RecordView, now: float, *, is_new: bool) -> None:
        """Hold the lease: this process makes the probes."""
        state = self.state
        counted_before = self._stored_successes
        # One success is left for a probe here, which then closes the circuit.
        self._stored_successes = min(view.successes, self.policy.success_threshold - 1)
        if isinstance(state, Closed):
            self._stored_state = None  # it has closed meanwhile: the fleet is to close as well
            return
        self._is_agreed = True
        if not is_new:
            return
        self._lease.used_at = now
        if isinstance(state, HalfOpen):
            # What this process has counted alone is added to what the last holder has counted.
            state.successes += self._stored_successes - counted_before
            self._close_if_recovered_alone(state, now)

    def _close_if_recovered_alone(self, state: HalfOpen, now: float) -> None:
        state.successes = min(state.successes, self.policy.success_threshold)
        if state.successes == self.policy.success_threshold:
            self._begin_state(agreed=False)
            self.close_recovered(state, now)

    # Following another process: rule 3

    def _follow(self, view: RecordView, now: float) -> None:
        if view.state is RecordState.CLOSED:
            self._is_opener = False
            self._follow_close(view, now)
            return
        self._is_opener = view.opened_by_me
        self._has_voted = False
        if view.state is RecordState.FORCED:
            self._follow_forced_opening(view, now)
        elif view.state is RecordState.HALF_OPEN:
            self._follow_probing(view, now)
        else:
            self._follow_opening(view, now)

    def _follow_close(self, view: RecordView, now: float) -> None:
        state = self.state
        if isinstance(state, Closed):
            self._stored_state = state
            return
        is_forced = isinstance(state, Open) and state.is_forced
        # The store knew of this opening when it was closed. The times do not always show that: they
        # are off by as much as an answer takes. Nobody has closed a record that names no process:
        # the store has lost its data, and has only votes since then.
        was_stored = self._stored_state is state and view.by != ""
        closed_at = now - view.delay - view.age
        if closed_at < self._opened_at(state) and not is_forced and not was_stored:
            self._begin_state(agreed=False)
            self._stored_state = None
            return
        recovered = view.reason != RESET
        self._adopt(self.make_closed(now, recovered=recovered), view, now)

    def _opened_at(self, state: Open | HalfOpen) -> float:
        """Return when it opened; for HALF_OPEN the latest time at which it can have opened."""
        if isinstance(state, Open):
            return state.since
        return state.since - self.opening_lasts()

    def _follow_forced_opening(self, view: RecordView, now: float) -> None:
        state = self.state
        if isinstance(state, Open) and state.is_forced:
            self._is_agreed = True
            self._stored_state = state
        else:
            self._adopt(Open(now, math.inf, state.streak, view.reason), view, now)

    def _follow_probing(self, view: RecordView, now: float) -> None:
        state = self.state
        if isinstance(state, Closed):
            opened_at = now - self.opening_lasts()
            self._adopt(Open(opened_at, now, state.streak, view.reason), view, now)
        else:
            self._is_agreed = True

    def _follow_opening(self, view: RecordView, now: float) -> None:
        state = self.state
        opened_at = now - view.age
        if isinstance(state, HalfOpen) or (isinstance(state, Open) and now >= state.until):
            self.note_failed_probe()  # that of another process
        until = opened_at + self.next_wait()
        if not isinstance(state, Open) or state.is_forced:
            self._adopt(Open(opened_at, until, state.streak, view.reason), view, now)
            return
        # It is open already: from now on it ends when the fleet's does, and nothing else changes.
        if not view.opened_by_me:
            state.until = until  # before `since`: `reject` reads the two without the lock
            state.since = opened_at
            state.reason = view.reason
        self._begin_state(agreed=True)
        self._stored_state = state

    def _adopt(self, new: State, view: RecordView, now: float) -> None:
        self._begin_state(agreed=not isinstance(new, Closed))
        self.enter(new, view.reason, now, by=view.by)
        self._stored_state = new
