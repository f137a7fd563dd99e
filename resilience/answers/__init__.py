"""Reading the answers of a server: the delay that they ask for, and their rate limit."""

from resilience.answers.delay import find_delay, requested_delay
from resilience.answers.headers import headers_of
from resilience.answers.limit_reading import read_limit

__all__ = ["find_delay", "headers_of", "read_limit", "requested_delay"]
