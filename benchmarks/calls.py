"""Questions (a) to (f) and (k): what one call costs."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from benchmarks.contenders import ALL, Contender, RegionBreaker
from benchmarks.contenders.base import REGION, Send
from benchmarks.faults import ClientError, ServerError
from benchmarks.floors import (
    BARE,
    EMPTY,
    bug,
    empty_sync_wrapper,
    empty_wrapper,
    not_found,
    raise_rejection,
    send,
    send_now,
)
from benchmarks.loops import MESSAGE, drive, errors, successes, sync_successes
from benchmarks.question import OURS, Question, contenders
from benchmarks.rounds import Case
from resilience import region_breaker

PLAIN_REJECTION = "a bare raise and catch in an empty wrapper"


def success() -> Question:
    """(a)."""
    cases, left_out = contenders(lambda contender: successes(contender.protect(send)))
    floors = [Case(BARE, successes(send)), Case(EMPTY, successes(empty_wrapper(send)))]
    title = "(a) A success, `async def`, region from a plain parameter"
    return Question(title, BARE, floors + cases, left_out)


def dotted_path() -> Question:
    """(b)."""
    credentials: Any = SimpleNamespace(region=REGION)
    as_mapping: Any = {"region": REGION}

    def ours(first: Any) -> Callable[[int], Any]:
        async def send(credentials: Any, message: str) -> str:
            del credentials
            return message

        registry = RegionBreaker().registry
        decorate = region_breaker(region_from="credentials.region", registry=registry)
        return successes(decorate(send), first)

    cases, left_out = contenders(
        lambda contender: successes(contender.protect(send), credentials), ours=False
    )
    cases += [
        Case(BARE, successes(send, credentials)),
        Case(EMPTY, successes(empty_wrapper(send), credentials)),
        Case(f"{OURS}, of an object", ours(credentials)),
        Case(f"{OURS}, of a mapping", ours(as_mapping)),
    ]
    title = "(b) A success, region from a dotted path (the others have one circuit for all regions)"
    return Question(title, BARE, cases, left_out)


def sync_success() -> Question:
    """(c)."""
    cases, left_out = contenders(lambda one: sync_successes(one.protect_sync(send_now)))
    floors = [
        Case(BARE, sync_successes(send_now)),
        Case(EMPTY, sync_successes(empty_sync_wrapper(send_now))),
    ]
    return Question("(c) A success, `def`", BARE, floors + cases, left_out)


def success_in_a_streak() -> Question:
    """(d)."""
    contender = RegionBreaker()
    protected = contender.protect(send)
    state = contender.registry.get(REGION)._circuit.state  # noqa: SLF001 - see below

    # A success ends the streak, so each call needs a new one. A real failure would be most of the
    # time; the streak is set by hand, and the base sets one too.
    def streak_then(fn: Send, thing: Any) -> Callable[[int], Any]:
        async def run(calls: int) -> None:
            for _ in range(calls):
                thing.streak = 1
                await fn(REGION, MESSAGE)

        return run

    cases, left_out = contenders(lambda one: successes(one.protect(send)), ours=False)
    cases += [
        Case(BARE, streak_then(send, SimpleNamespace(streak=0))),
        Case(f"{OURS}, each after a failure", streak_then(protected, state)),
    ]
    title = "(d) A success that ends a streak, beside a plain success of the others"
    return Question(title, BARE, cases, left_out)


def ignored_status() -> Question:
    """(e), first half."""
    cases, left_out = contenders(lambda one: errors(one.protect(not_found), ClientError))
    cases.append(Case(BARE, errors(not_found, ClientError)))
    return Question("(e) An error that does not count: status 404", BARE, cases, left_out)


def ignored_bug() -> Question:
    """(e), second half."""
    cases, left_out = contenders(lambda one: errors(one.protect(bug), ValueError))
    cases.append(Case(BARE, errors(bug, ValueError)))
    title = "(e) An error that does not count, and says nothing: a `ValueError`"
    return Question(title, BARE, cases, left_out)


def rejection() -> Question:
    """(f)."""
    cases = [_rejections(library) for library in ALL]
    cases.append(Case(PLAIN_REJECTION, errors(raise_rejection, Exception)))
    return Question("(f) A rejection while OPEN", PLAIN_REJECTION, cases)


def _rejections(library: type[Contender]) -> Case:
    """Make a case whose every round meets a breaker that has only just opened.

    The recovery timeout of one that was opened earlier might run out on a slow machine, and one
    library raises the same error again and again, which gets longer each time.
    """
    opened: list[Send] = []

    async def fail(region: str, message: str) -> str:
        del region, message
        raise ServerError(503)

    def open_another() -> None:
        contender = library()
        opened[:] = [contender.protect(fail)]
        while not contender.is_open():
            drive(errors(opened[0], Exception)(1))

    async def run(calls: int) -> None:
        await errors(opened[0], library.rejection)(calls)

    return Case(library.title(), run, before=open_another)


def success_with_listener() -> Question:
    """(k)."""
    heard: list[str] = []
    cases, left_out = contenders(lambda one: successes(one.protect(send)), heard.append)
    cases.append(Case(BARE, successes(send)))
    return Question("(k) A success, with a listener attached", BARE, cases, left_out)
