"""torch, imported when it is first used: drivers resolve losses, but compute none, and torch takes two seconds.

Example: ``from raylign.lazy import torch``
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any


class Lazy:
    """Stands for a module: whatever is asked of it is asked of the module, which is imported for it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


__all__ = ["Lazy", "torch"]

if TYPE_CHECKING:
    import torch
else:
    torch = Lazy("torch")
