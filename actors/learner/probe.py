"""Rows that the model sampled itself: their log-probs prove that an engine runs the weights that were published.

Sampled tokens are what engines and learners meet in a run: likely ones, on which both round alike. 128 of them make the
mean gap steady. Several short rows need few passes, and fit into any context.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from raylign.actors.learner.model import PackedInputs, load_tokenizer
from raylign.actors.learner.passes import token_values
from raylign.columns import Columns, offsets_of
from raylign.packing import pack
from raylign.records import Int32s

TEXT = "The sum of 12 and 30 is 42, because 10 + 30 = 40."  # its first tokens begin the rows
ROWS, SAMPLED = 8, 16  # sampled tokens of a row


def first_ids(model_path: str, vocab_size: int, seed: int) -> Int32s:
    """[ROWS] the token that each row begins with: of the text, or random ones for a folder without a tokenizer."""
    ids: list[int] = []
    if (tokenizer := load_tokenizer(model_path)) is not None:
        ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    if not ids:
        return np.random.default_rng(seed).integers(0, vocab_size, ROWS).astype(np.int32)
    return np.resize(np.array(ids, np.int32), ROWS)


def sample_rows(first: Int32s, draw: Callable[[PackedInputs, int], tuple[Tensor, ...]], device: torch.device) -> Int32s:
    """[ROWS, 1 + SAMPLED] ids; `draw` gives one sampled id for each predicting position, and the number of the pass."""
    rows = first[:, None]
    for step in range(SAMPLED):
        rows = np.concatenate([rows, np.zeros_like(first)[:, None]], 1)
        batch = probe_batch(rows, from_token=rows.shape[1] - 1)
        micro = pack(batch, 1, batch.tokens, False)[0]
        found = token_values(lambda inputs, step=step: draw(inputs, step), micro, batch, device)  # type: ignore[misc]
        flat = rows.reshape(-1).copy()
        flat[found.index] = found.values.astype(np.int32)
        rows = flat.reshape(rows.shape)
    return rows


def probe_batch(rows: Int32s, from_token: int = 1) -> Columns:
    """Rows of one length [R, L] with a loss on everything from a token on."""
    count, length = rows.shape
    return Columns(
        offsets=offsets_of([length] * count),
        prompt_lengths=np.ones(count, np.int32),
        groups=np.arange(count, dtype=np.int32),
        streams={
            "token_ids": np.ascontiguousarray(rows).reshape(-1),
            "loss_mask": np.tile(np.arange(length) >= from_token, count),
        },
    )
