"""What the protected calls of the suite raise, and which of it has to count."""

REGION = "eu-west-1"
_SERVER_ERROR = 500


class HttpError(Exception):
    """An answer with an error status; it has `.status`, as the errors of HTTP clients do."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class PoisonError(Exception):
    """An error that no classifier can judge: the classifier raises over it."""


def is_failure(error: BaseException) -> bool:
    """Whether an error counts as a failure of the server; raises over a `PoisonError`."""
    if isinstance(error, PoisonError):
        raise RuntimeError("the classifier is broken")  # noqa: TRY004 - a bug in a classifier
    if isinstance(error, HttpError):
        return error.status >= _SERVER_ERROR
    return isinstance(error, (TimeoutError, ConnectionError))
