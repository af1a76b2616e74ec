"""A short row whose log-probs prove that an engine runs the weights that the learner published."""

from __future__ import annotations

import numpy as np

from raylign.actors.learner.model import load_tokenizer
from raylign.columns import Columns, offsets_of
from raylign.records import Int32s

# Ordinary text: a random row would have log-probs near -10, where bf16 engines and learners differ by rounding alone.
TEXT = "The sum of 12 and 30 is 42, because 10 + 30 = 40 and 40 + 2 = 42."
LENGTH = 32


def probe_ids(model_path: str, vocab_size: int, seed: int) -> Int32s:
    """[<= 32] ids of the probe: the text in the model's own tokenizer, random ids for a folder without one."""
    tokenizer = load_tokenizer(model_path)
    if tokenizer is not None:
        ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"][:LENGTH]
        if len(ids) >= 2:
            return np.array(ids, np.int32)
    return np.random.default_rng(seed).integers(0, vocab_size, LENGTH).astype(np.int32)


def probe_batch(ids: Int32s) -> Columns:
    """One row with a loss on everything but the first token."""
    return Columns(
        offsets=offsets_of([len(ids)]),
        prompt_lengths=np.ones(1, np.int32),
        groups=np.zeros(1, np.int32),
        streams={"token_ids": ids, "loss_mask": np.arange(len(ids)) > 0},
    )
