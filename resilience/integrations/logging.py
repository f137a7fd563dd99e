"""The log in the standard library's logging, or in structlog, instead of in loguru.

`structlog` is needed for `use_structlog` only.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from resilience.log import send_lines_to


class StructuredLogger(Protocol):
    """What `use_structlog` needs of a logger."""

    def info(self, event: str, **fields: object) -> object:
        """Log a line."""

    def warning(self, event: str, **fields: object) -> object:
        """Log a line."""

    def error(self, event: str, **fields: object) -> object:
        """Log a line."""


def use_logging(logger: logging.Logger | str = "resilience") -> Callable[[], None]:
    """Send the log to the standard library's logging from now on, and no longer to loguru.

    What belongs to a line is in the attributes of its record: `region` in all of them, and `old`,
    `new`, `reason`, `streak` and `by` in those about a change of state.

    Args:
        logger: The logger, or its name.

    Returns:
        A function that ends it: the log goes to loguru again.

    Raises:
        TypeError: It is neither a logger nor a name.
    """
    target = logging.getLogger(logger) if isinstance(logger, str) else logger
    if not isinstance(target, logging.Logger | logging.LoggerAdapter):
        raise TypeError(f"logger must be a logger or a name, got a {type(logger).__name__}")
    levels = logging.getLevelNamesMapping()

    def write(level: str, line: str, bound: Mapping[str, object]) -> None:
        extra = dict(bound)
        if isinstance(target, logging.LoggerAdapter):
            # By itself, it puts its own attributes in the place of these.
            line, options = target.process(line, {"extra": extra})
            own: Mapping[str, object] = options.get("extra") or {}
            target.logger.log(levels[level], line, extra={**own, **extra})
        else:
            target.log(levels[level], line, extra=extra)

    return send_lines_to(write)


def use_structlog(logger: StructuredLogger | None = None) -> Callable[[], None]:
    """Send the log to structlog from now on, and no longer to loguru.

    Args:
        logger: A logger of structlog; None means ``structlog.get_logger("resilience")``.

    Returns:
        A function that ends it: the log goes to loguru again.

    Raises:
        ImportError: structlog is not installed, and no logger was given.
    """
    if logger is None:
        import structlog  # noqa: PLC0415 - whoever uses it has it

        logger = structlog.get_logger("resilience")
    target = logger

    def write(level: str, line: str, bound: Mapping[str, object]) -> None:
        getattr(target, level.lower())(line, **bound)

    return send_lines_to(write)
