"""KeepsIdentity: for objects of which a second one, made silently, would be a fault."""

from typing import Any, ClassVar, NoReturn, Self


class KeepsIdentity:
    """Is copied as itself, and cannot be pickled.

    What holds such an object may be copied, and shares it then with its copy.
    """

    __slots__ = ()

    #: What to do instead of pickling it.
    NOT_PICKLED: ClassVar[str]

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        kind = type(self).__name__
        raise TypeError(f"a {kind} cannot be pickled: {self.NOT_PICKLED}")
