"""The rows of the probe: those that rounding moves least, scored without a rounded logit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from raylign.actors.learner.head import exact_logits
from raylign.actors.learner.logprobs import LogprobHead
from raylign.actors.learner.probe import CANDIDATES, ROWS, steadiest


def test_rows_that_rounding_moves_are_left_out() -> None:
    """Odd rows stand between two experts: the sign of a number near 0 decides. The random state stays as it was."""
    embedding = nn.Embedding(CANDIDATES, 16).to(torch.bfloat16)
    nn.init.ones_(embedding.weight)
    rows = np.arange(CANDIDATES, dtype=np.int32)[:, None].repeat(3, 1)

    def score(rows: np.ndarray) -> np.ndarray:
        hidden = embedding(torch.from_numpy(rows[:, 1:].astype(np.int64))).detach().float().numpy().mean(-1)
        return np.where(rows[:, 1:] % 2, np.sign(hidden - 1.0), hidden).astype(np.float32)

    before = torch.get_rng_state()
    kept = steadiest(rows, score, embedding, seed=3)
    assert torch.equal(torch.get_rng_state(), before) and not embedding._forward_hooks
    assert kept.shape == (ROWS, 3) and (kept[:, 0] % 2 == 0).all() and (np.diff(kept[:, 0]) > 0).all()
    assert np.array_equal(kept, steadiest(rows, score, embedding, seed=3))


@pytest.mark.parametrize("trained", [False, True])
def test_the_probe_rounds_no_logit_and_leaves_the_head_as_it_was(trained: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 50, bias=False).to(torch.bfloat16)
    linear.weight.data *= 40  # logits of some 20
    head = LogprobHead(linear, chunk=7, fp32=trained)
    hidden, targets = torch.randn(30, 64).to(torch.bfloat16), torch.randint(50, (30,))
    logits = hidden.double() @ linear.weight.double().T
    expected = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    with torch.no_grad(), exact_logits(nn.Sequential(head)):
        logprobs = head(hidden, targets)[0]
    assert (logprobs - expected).abs().max() < 1e-3 and head.fp32 is trained
    with torch.no_grad():
        assert trained or (head(hidden, targets)[0] - expected).abs().max() > 1e-2
