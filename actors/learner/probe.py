"""Rows that the model sampled itself: their log-probs prove that an engine runs the weights that were published.

Sampled tokens are what engines and learners meet in a run: likely ones, on which both round alike. 128 of them make the
mean gap steady. Several short rows need few passes, and fit into any context. Of four times as many rows those are
taken that rounding moves least: where a router stands between two experts rounding alone moves a token by a nat, in an
engine that is right, and would hide what an engine does wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from raylign.actors.learner.model import PackedInputs, load_tokenizer
from raylign.actors.learner.passes import token_values
from raylign.batch import Batch, offsets_of
from raylign.packing import pack
from raylign.records import Float32s, Int32s

TEXT = "The sum of 12 and 30 is 42, because 10 + 30 = 40."  # its first tokens begin the rows
ROWS, SAMPLED = 8, 16  # sampled tokens of a row
CANDIDATES = 4 * ROWS
TRIALS = 4  # passes with noise


def first_ids(model_path: str, vocab_size: int, seed: int) -> Int32s:
    """[CANDIDATES] the token that each row begins with: of the text, or random ones where there is no tokenizer."""
    ids: list[int] = []
    if (tokenizer := load_tokenizer(model_path)) is not None:
        ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    if not ids:
        return np.random.default_rng(seed).integers(0, vocab_size, CANDIDATES).astype(np.int32)
    return np.resize(np.array(ids, np.int32), CANDIDATES)


def sample_rows(
    first: Int32s, sample: Callable[[PackedInputs, int], tuple[Tensor, ...]], device: torch.device
) -> Int32s:
    """[R, 1 + SAMPLED] ids; `sample` takes the number of the pass, and gives one id for each predicting position."""
    rows = first[:, None]
    for step in range(SAMPLED):
        rows = np.concatenate([rows, np.zeros_like(first)[:, None]], 1)
        batch = probe_batch(rows, from_token=rows.shape[1] - 1)
        micro = pack(batch, 1, batch.tokens, False)[0]
        sampled = token_values(lambda inputs, step=step: sample(inputs, step), micro, batch, device)  # type: ignore[misc]
        flat = rows.reshape(-1).copy()
        flat[sampled.index] = sampled.values.astype(np.int32)
        rows = flat.reshape(rows.shape)
    return rows


def steadiest(rows: Int32s, score: Callable[[Int32s], Float32s], embedding: nn.Module, seed: int) -> Int32s:
    """The ROWS of them whose log-probs noise on the embedding, as large as one rounding, moves least; in their order.

    `score` gives the log-probs [R, L - 1] of rows under the model that this embedding belongs to.
    """
    clean = score(rows)
    moved = np.zeros(len(rows))
    for trial in range(TRIALS):
        with _noise(embedding, seed + trial):
            moved += np.abs(score(rows) - clean).mean(1)
    return rows[np.sort(np.argsort(moved, kind="stable")[:ROWS])]


@contextmanager
def _noise(embedding: nn.Module, seed: int) -> Iterator[None]:
    """The process's own random state stays as it was."""

    def shake(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        generator = torch.Generator(output.device).manual_seed(seed)
        noise = torch.randn(output.shape, generator=generator, device=output.device)
        return (output.float() * (1 + torch.finfo(output.dtype).eps * noise)).to(output.dtype)

    hook = embedding.register_forward_hook(shake)
    try:
        yield
    finally:
        hook.remove()


def probe_batch(rows: Int32s, from_token: int = 1) -> Batch:
    """Rows of one length [R, L] with a loss on everything from a token on."""
    count, length = rows.shape
    return Batch(
        offsets=offsets_of([length] * count),
        prompt_lengths=np.ones(count, np.int32),
        groups=np.arange(count, dtype=np.int32),
        streams={
            "token_ids": np.ascontiguousarray(rows).reshape(-1),
            "loss_mask": np.tile(np.arange(length) >= from_token, count),
        },
    )
