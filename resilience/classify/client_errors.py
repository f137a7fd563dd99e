"""Which types of errors also report what the caller did wrong."""

from types import FunctionType

from resilience._introspection import bases_of, is_a, module_of, names_in
from resilience.classify.known_types import FACTS, STATUS_HOLDERS, STATUS_NAMES
from resilience.classify.library import Meaning
from resilience.classify.reading import safe_getattr

# Where errors keep an HTTP status, or take it from: an argument that is not kept under its name.
_STATUS_NAMES = {*STATUS_NAMES, *STATUS_HOLDERS, "http_resp"}
_MOST_TYPES = 1_000


def says_client_errors(kind: type) -> bool:
    """Return whether errors of a type, or of one that its library derives, say a 4xx or its like.

    ``failures()`` of such a type counts those, too: ten times 404 would open the circuit of a
    healthy region.
    """
    by_itself = _says_client_errors(kind)
    if by_itself is not None:
        return by_itself
    kinds, seen = [kind], {id(kind)}  # by identity: a metaclass may compare as it likes
    for one in kinds:
        if _says_client_errors(one):
            return True
        derived: list[type] = type.__subclasses__(one)
        new = [two for two in derived if id(two) not in seen and _package(two) == _package(kind)]
        kinds += new[: _MOST_TYPES - len(kinds)]
        seen.update(map(id, new))
    return False


def _package(kind: type) -> str:
    return module_of(kind).partition(".")[0]


def _says_client_errors(kind: type) -> bool | None:
    """Return what is known about a type alone; None: nothing."""
    library, meaning, codes, _, _ = FACTS.of(kind)
    if codes or meaning in (Meaning.REFUSAL, Meaning.THROTTLING):
        return True
    if meaning is not None:
        return False
    if library is not None and not library.has_http_status:
        return None
    bases = [base for base in bases_of(kind) if module_of(base) != "builtins"]
    return True if any(_has_status(base) for base in bases) else None


def _has_status(kind: type) -> bool:
    annotations = safe_getattr(kind, "__annotations__")
    names = {*names_in(kind), *(dict.keys(annotations) if is_a(annotations, dict) else ())}
    made_by = names_in(kind).get("__init__")
    if is_a(made_by, FunctionType):
        # Its parameters, and the attributes that it sets.
        names |= {*made_by.__code__.co_varnames, *made_by.__code__.co_names}
    return not names.isdisjoint(_STATUS_NAMES)
