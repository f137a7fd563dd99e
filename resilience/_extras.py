"""Libraries that only an extra installs: where one is missing, the error names the extra."""

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def needs_extra(what: str, extra: str) -> Generator[None, None, None]:
    """Name an extra in the error of an import that fails in this block.

    Args:
        what: What needs the libraries: a module, or what users call it.
        extra: The extra that installs them.

    Raises:
        ImportError: A library is missing (then it is a `ModuleNotFoundError`), or too old.
    """
    try:
        yield
    except ImportError as error:
        text = f'{what} needs the extra {extra}: pip install "region-breaker[{extra}]" ({error})'
        raise type(error)(text, name=error.name, path=error.path) from error
