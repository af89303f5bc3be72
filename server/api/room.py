"""Room for the bodies that are being received: a server that has none left refuses unread."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from server.errors import Busy

Grow = Callable[[int], None]
"""Told how many bytes a body has had so far; raises `Busy` where there is no room for them."""


@dataclass(slots=True, eq=False)
class _Body:
    owner: int
    size: int = 0


class Room:
    """Takes `most` bodies at a time, of `most_bytes` together; one alone may be larger. Half of
    both is the most that one account gets: whoever sends slowly shuts nobody else out.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bodies: list[_Body] = []

    def __len__(self) -> int:
        """How many bodies are being received."""
        return len(self._bodies)

    @property
    def size_bytes(self) -> int:
        """What these declare, or have had so far where that is more."""
        return sum(body.size for body in self._bodies)

    @contextlib.contextmanager
    def take(self, declared_bytes: int, owner: int) -> Iterator[Grow]:
        """Room for a body until the block is left.

        Args:
            declared_bytes: how long the body says that it is; 0 if it does not say.
            owner: the account that sends it.

        Raises:
            Busy: on entry, or when the body turns out to be longer; no room is left.
        """
        body = _Body(owner)

        def grow(received_bytes: int) -> None:
            size = max(received_bytes, body.size)
            others = [other for other in self._bodies if other is not body]
            own = [other for other in others if other.owner == owner]
            for found, share in ((others, 1), (own, 2)):
                taken = sum(other.size for other in found)
                if taken and taken + size > self._most_bytes // share:
                    raise Busy
            body.size = size

        own = sum(other.owner == owner for other in self._bodies)
        if len(self._bodies) >= self._most or own >= (self._most + 1) // 2:
            raise Busy
        grow(declared_bytes)
        self._bodies.append(body)
        try:
            yield grow
        finally:
            self._bodies.remove(body)
