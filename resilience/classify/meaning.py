"""What an error of a client library says in its own code, its message or its type."""

from resilience.classify.known_types import TypeFacts
from resilience.classify.library import Meaning
from resilience.classify.reading import read
from resilience.classify.status import texts_of


def meaning_by_itself(error: BaseException, facts: TypeFacts) -> Meaning | None:
    """Return what an error says in a code or a text of its library, or by a type that is final."""
    library = facts.library
    if library is not None:
        for codes in facts.codes:
            meaning = codes.meaning_of(read(error, codes.path))
            if meaning is not None:
                return meaning
        if facts.meaning is not None and library.texts:
            texts = texts_of(error, library)
            for part, meaning in library.texts:
                if any(part in text if part else not text for text in texts):
                    return meaning
    return facts.meaning if facts.meaning in (Meaning.LOCAL, Meaning.MISUSE) else None
