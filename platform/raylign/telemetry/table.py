"""Aligned plain-text tables: readable on a terminal, in a log file and in a test."""

from __future__ import annotations

from collections.abc import Sequence


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], indent: str = "  ") -> str:
    """Rows under headers, columns as wide as their widest cell; columns of numbers are right-aligned.

    Example: ``table(["role", "GPUs"], [["learner", 4]])``
    """
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(headers), *cells]) for i in range(len(headers))]
    numeric = [bool(rows) and all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(headers))]

    def line(values: Sequence[str]) -> str:
        padded = [v.rjust(w) if n else v.ljust(w) for v, w, n in zip(values, widths, numeric, strict=True)]
        return (indent + "  ".join(padded)).rstrip()

    head = [line(list(headers)), line(["-" * width for width in widths])] if any(headers) else []
    return "\n".join([*head, *(line(row) for row in cells)])


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:g}" if abs(cell) < 1e4 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)
