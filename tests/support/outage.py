"""An outage from the beginning to the end."""

from tests.support.driving import ServerError, close, trip


def outage(breaker, clock):
    """Drive it through everything: trip, failed probe, recovery, forced, reset."""
    trip(breaker)
    clock.advance(60)
    breaker.acquire().fail(ServerError(500))
    clock.advance(60)
    close(breaker)
    breaker.force_open("maintenance")
    breaker.reset()


def text_of(log):
    return [(entry["level"].name, entry["message"]) for entry in log]
