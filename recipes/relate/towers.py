"""Two towers with a head for clicks and one for conversions, and their loss over the entire space of impressions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from raylign.recipes.relate.features import Buckets

CERTAIN = -1e-7  # a chance of 1 is taken for exp of this, so that its complement has a logarithm


class Bags(NamedTuple):
    """What a model reads of pairs of a context and an ad, each a list of buckets."""

    contexts: Sequence[Buckets]
    ads: Sequence[Buckets]
    shared: Sequence[Buckets]  # of both

    def rows(self, chosen: NDArray[np.int64]) -> Bags:
        """Some of the pairs."""
        return Bags(*([part[index] for index in chosen.tolist()] for part in self))


class TwoTowers(nn.Module):
    """Logits of p_ctr and p_cvr: linear in what the ad has, and what it shares with the context; and in the products of
    two towers, one of the context, one of the ad, which see what goes together.
    """

    def __init__(self, buckets: int, hidden: int) -> None:
        super().__init__()
        self.context, self.ad = (nn.EmbeddingBag(buckets, hidden, mode="sum") for _ in range(2))
        self.of_ad, self.of_shared = (nn.EmbeddingBag(buckets, 2, mode="sum") for _ in range(2))
        self.heads = nn.Linear(3 * hidden, 2)
        for tower in (self.context, self.ad):
            nn.init.normal_(tower.weight, std=0.05)
        for wide in (self.of_ad, self.of_shared, self.heads):
            nn.init.zeros_(wide.weight)

    def forward(self, bags: Bags) -> tuple[Tensor, Tensor]:
        """[N] logits of a click, [N] of a conversion once clicked."""
        context, ad = torch.tanh(self.context(*_flat(bags.contexts))), torch.tanh(self.ad(*_flat(bags.ads)))
        deep = self.heads(torch.cat([context, ad, context * ad], dim=1))
        clicked, converted = (deep + self.of_ad(*_flat(bags.ads)) + self.of_shared(*_flat(bags.shared))).unbind(1)
        return clicked, converted


def entire_space_loss(clicked: Tensor, converted: Tensor, counts: Tensor) -> Tensor:
    """- sum [c log p + (n - c) log(1 - p) + v log pq + (n - v) log(1 - pq)] / sum n, p and q of the two logits.

    counts: [N, 3] impressions n, clicks c, conversions v.
    """
    shown, clicks, conversions = counts.unbind(1)
    both = functional.logsigmoid(clicked) + functional.logsigmoid(converted)
    neither = torch.log(-torch.expm1(both.clamp(max=CERTAIN)))
    of_clicks = clicks * functional.logsigmoid(clicked) + (shown - clicks) * functional.logsigmoid(-clicked)
    of_conversions = conversions * both + (shown - conversions) * neither
    return -(of_clicks + of_conversions).sum() / shown.sum()


class Training(NamedTuple):
    """How long and how fast a model learns."""

    epochs: int
    batch_size: int
    lr: float
    l2: float


def trained(model: TwoTowers, bags: Bags, counts: np.ndarray, training: Training, seed: int) -> TwoTowers:
    """The model after Adam on all pairs, in an order drawn from the seed. counts: [N, 3], see `entire_space_loss`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.lr, weight_decay=training.l2)
    numbers, rng = torch.from_numpy(counts), np.random.default_rng(seed)
    for _ in range(training.epochs):
        order = rng.permutation(len(counts))
        for start in range(0, len(order), training.batch_size):
            chosen = order[start : start + training.batch_size]
            if not counts[chosen, 0].any():
                continue  # nobody saw these ads
            optimizer.zero_grad()
            clicked, converted = model(bags.rows(chosen))
            entire_space_loss(clicked, converted, numbers[chosen]).backward()
            optimizer.step()
    return model


def _flat(bags: Sequence[Buckets]) -> tuple[Tensor, Tensor]:
    """All buckets in a row, and where each bag begins."""
    lengths = np.array([len(bag) for bag in bags], np.int64)
    starts = np.cumsum(lengths) - lengths
    whole = np.concatenate([np.zeros(0, np.int64), *bags])
    return torch.from_numpy(whole), torch.from_numpy(starts)
