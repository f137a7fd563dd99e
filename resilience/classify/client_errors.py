"""Which types of errors also report the client errors 4xx."""

from functools import lru_cache
from types import CodeType, FunctionType

from resilience.classify.reading import safe_getattr

# Where errors keep an HTTP status, or the response that has one.
_NAMES = {
    "code",
    "http_code",
    "http_resp",
    "http_status",
    "meta",
    "resp",
    "response",
    "response_code",
    "status",
    "status_code",
}


@lru_cache(maxsize=512)
def says_client_errors(kind: type) -> bool:
    """Return whether errors of a type have an HTTP status, and so may report a 4xx as well.

    ``failures()`` of such a type counts its 4xx, too: ten times 404 would open the circuit of a
    healthy region.
    """
    return any(_has_status(one) for one in kind.__mro__ if one not in _OF_PYTHON)


_OF_PYTHON = (*BaseExceptionGroup.__mro__, *OSError.__mro__, SystemExit)


def _has_status(kind: type) -> bool:
    annotations = safe_getattr(kind, "__annotations__")
    names = {*vars(kind), *(annotations if isinstance(annotations, dict) else ())}
    made_by = vars(kind).get("__init__")
    if isinstance(made_by, FunctionType):
        # Its parameters, and the attributes that it sets.
        code: CodeType = made_by.__code__
        names |= {*code.co_varnames, *code.co_names}
    return not names.isdisjoint(_NAMES)
