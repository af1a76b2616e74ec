"""Who is told of what is being started."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Starting(Protocol):
    """While the block lasts `what` is being started; `ready()` of its `of` are."""

    def __call__(self, what: str, ready: Callable[[], int] | None = None, of: int = 0) -> AbstractContextManager[None]:
        """The block."""


def unseen(what: str, ready: Callable[[], int] | None = None, of: int = 0) -> AbstractContextManager[None]:
    """Nobody is told."""
    return nullcontext()
