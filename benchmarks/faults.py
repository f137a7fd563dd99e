"""What goes wrong in the measurements, and the mission's filter: which of it a breaker counts."""


class HttpError(Exception):
    """An answer with an error status; it has `.status`, as the errors of HTTP clients do."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class ServerError(HttpError):
    """A 5xx; a type of its own for the libraries that count by type only."""


class ClientError(HttpError):
    """A 4xx, for the same reason."""


class PoisonError(Exception):
    """What no filter can judge: it raises over this one."""


#: What counts, for a library that only knows types.
COUNTED = (ServerError, TimeoutError, ConnectionError)


def is_failure(error: BaseException) -> bool:
    """Tell whether an error counts (T10, "Failure Counting"), for a library that takes a function.

    Args:
        error: What the call raised.
    """
    if isinstance(error, PoisonError):
        raise RuntimeError("the filter is broken")  # noqa: TRY004 - that is the point
    if isinstance(error, HttpError):
        return error.status >= 500
    return isinstance(error, (TimeoutError, ConnectionError))


def is_excluded(error: BaseException) -> bool:
    """Tell the opposite, for a library that is told what not to count."""
    return not is_failure(error)
