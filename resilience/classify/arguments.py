"""Checks of the classifiers that are given to breakers, registries and decorators."""

from resilience._validate import check_callable, kind_of, name_of
from resilience.classify.failures import CountTypes, failures
from resilience.classify.rules import classify_error, classify_status


def check_classifiers(classifier: object, result_classifier: object) -> None:
    """Reject classifiers that cannot be called, or classify something else.

    Args:
        classifier: Should take an exception and return an `Outcome`.
        result_classifier: Should take a result and return an `Outcome`; None: there is none.
    """
    _check("classifier", classifier, "an exception and returns an Outcome")
    if classifier is classify_status:
        raise TypeError(
            "classifier must be a callable that takes an exception, got one that takes a result:"
            " pass it as result_classifier"
        )
    if result_classifier is None:
        return
    _check("result_classifier", result_classifier, "a result and returns an Outcome")
    if result_classifier is classify_error or isinstance(result_classifier, CountTypes):
        raise TypeError(
            "result_classifier must be a callable that takes a result, got one that takes an"
            " exception: pass it as classifier"
        )


def _check(name: str, value: object, takes: str) -> None:
    types = list(value) if isinstance(value, tuple | list | set | frozenset) else [value]
    if value is failures or (types and all(map(_is_exception_type, types))):
        got = "failures without types" if value is failures else kind_of(value)
        shown = "YourError" if value is failures else ", ".join(map(name_of, types))
        raise TypeError(
            f"{name} must be a callable that takes {takes}, got {got}: to count exceptions by"
            f" their type, write classifier=failures({shown})"
        )
    check_callable(name, value, takes)
    if isinstance(value, type):
        raise TypeError(f"{name} must be a callable that takes {takes}, got {kind_of(value)}")


def _is_exception_type(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)
