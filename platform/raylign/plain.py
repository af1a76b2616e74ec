"""Unpickling of records and plain data, and of nothing else: a file that names any other class or function is refused.

A pickle is a program; without this one that somebody else wrote runs commands of theirs when it is read.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import io
import pickle
from typing import Any

from raylign.errors import CheckpointError

RECORDS = ("raylign.records", "raylign.loop.collect")  # whose dataclasses and enumerations are data
BUILDERS = frozenset(
    {
        ("builtins", "set"), ("builtins", "frozenset"), ("builtins", "complex"), ("builtins", "bytearray"),
        ("collections", "Counter"), ("collections", "OrderedDict"), ("collections", "deque"),
        ("numpy", "ndarray"), ("numpy", "dtype"),
        ("numpy._core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy.core.multiarray", "_reconstruct"), ("numpy.core.multiarray", "scalar"),
        ("numpy.core.numeric", "_frombuffer"),
    }
)  # fmt: skip


class _Unpickler(pickle.Unpickler):
    """Finds classes of records and the builders of plain values."""

    def find_class(self, module: str, name: str) -> Any:
        """Raises CheckpointError for anything else."""
        if (module, name) in BUILDERS:
            return super().find_class(module, name)
        if module in RECORDS:
            kind = getattr(importlib.import_module(module), name, None)
            data = isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, enum.Enum))
            if data and kind.__module__ == module:
                return kind
        raise CheckpointError(
            f"a saved group holds a {module}.{name}, which is no plain data; fix: let rewards and environments put "
            "numbers, texts, lists, mappings and arrays into what they return"
        )


def loads(content: bytes) -> Any:
    """The pickled data. Raises CheckpointError when it names a class or function that is no data."""
    return _Unpickler(io.BytesIO(content)).load()
