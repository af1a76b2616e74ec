"""Modules imported when they are first used: drivers resolve losses, but compute none, and torch takes two seconds.

Example::

    if TYPE_CHECKING:
        import torch
    else:
        torch = lazy("torch")
"""

from __future__ import annotations

import importlib
from typing import Any


class Lazy:
    """Stands for a module: whatever is asked of it is asked of the module, which is imported for it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


def lazy(name: str) -> Any:
    """The module of this name, imported at the first use of anything in it."""
    return Lazy(name)
