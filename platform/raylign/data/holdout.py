"""How many rows are held out, and what is said when none is left to train on."""

from __future__ import annotations

from raylign.config.schema import DataConfig
from raylign.errors import DataError

PART, MOST = 10, 256  # one row in so many, and at most so many, where nothing is set


def held_out(config: DataConfig, rows: int, source: str, what: str) -> int:
    """How many of `rows` are held out: `data.holdout`, or where it is null a tenth, at most 256; none of a single row.

    source, what: for the message, e.g. "pairs.jsonl" and "pairs". Raises DataError when none would be left to train on.
    """
    wanted = min(MOST, max(1, rows // PART)) if config.holdout is None else config.holdout
    if config.holdout is None and rows == 1:
        wanted = 0
    if rows and wanted >= rows:
        fits = f"data.holdout={min(MOST, rows // PART) or rows - 1}, or data.holdout=null for a tenth of them"
        raise DataError(f"{source}: data.holdout={wanted} of {rows} {what} leaves none to train on; fix: set {fits}")
    return wanted


def too_long(source: str, what: str, shortest: int, config: DataConfig) -> DataError:
    """That every row is longer than `data.max_prompt_tokens`, of which the shortest has `shortest` tokens."""
    fix = f"set data.max_prompt_tokens={shortest} or more (and model.max_context with it)"
    why = f"the shortest prompt has {shortest} tokens, more than data.max_prompt_tokens={config.max_prompt_tokens}"
    return DataError(f"{source}: all {what} are dropped: {why}; fix: {fix}")
