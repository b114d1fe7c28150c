"""A value derived from a versioned object, computed again only when the version changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Versioned(Generic[T]):
    """Caches one value; a snapshot leaves it out."""

    def __init__(self) -> None:
        self._version = -1
        self._value: T | None = None

    def get(self, version: int, make: Callable[[], T]) -> T:
        """Returns the value of this version (0 or more); `make` computes it when another version's is cached."""
        if self._version != version or self._value is None:
            self._version, self._value = version, make()
        return self._value

    def __reduce__(self) -> tuple[type[Versioned[T]], tuple[()]]:
        return type(self), ()
