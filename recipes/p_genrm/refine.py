"""Prototypes refined on pairs: what a user of the cluster, with such a history, prefers (eq. 4 to 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Float64s = NDArray[np.float64]


@dataclass
class Refinement:
    """Choices of the refinement."""

    epochs: int = 1  # 0: K-means alone
    lr: float = 1e-3
    batch_size: int = 16
    rho: float = 0.5  # of the prototype in the attention
    query: float = 1.0  # lambda_q
    history: float = 1.0  # lambda_s
    centre: float = 1e-3  # lambda_cent
    trust: float = 1e-3  # lambda_tr
    ema: float = 0.98  # decay of p_j, released code only
    released: bool = False  # as the released code: rho on the query's term, p_j a moving average, no regulariser added

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch_size < 1 or self.lr <= 0:
            raise ValueError(f"epochs={self.epochs} must be 0 or more, batch_size={self.batch_size}, lr={self.lr} more")
        if min(self.rho, self.query, self.history, self.centre, self.trust) < 0 or not 0 <= self.ema < 1:
            raise ValueError("rho, query, history, centre and trust must be 0 or more, ema 0 or more and below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A row as vectors: its query, chosen minus rejected, and the same of each past choice.

    Example: ``Pair(query=q, difference=y_plus - y_minus, past=((q_1, d_1), (q_2, d_2)))``, all [D]
    """

    query: Float64s
    difference: Float64s
    past: tuple[tuple[Float64s, Float64s], ...]


class PairModel(nn.Module):
    """z_t = a_j + lambda_q W_q q_t + lambda_s W_s v_H, whose product with y+ - y- says who is preferred."""

    def __init__(self, dimensions: int, settings: Refinement) -> None:
        super().__init__()
        self.settings = settings
        self.past = nn.Linear(2 * dimensions, dimensions, dtype=torch.float64)  # W, b
        self.query = nn.Linear(dimensions, dimensions, bias=False, dtype=torch.float64)  # W_q
        self.history = nn.Linear(dimensions, dimensions, bias=False, dtype=torch.float64)  # W_s

    def forward(self, pairs: Sequence[Pair], prototype: torch.Tensor) -> torch.Tensor:
        """[N] Delta_t of each pair. prototype: [D]"""
        queries = torch.from_numpy(np.stack([pair.query for pair in pairs]))
        differences = torch.from_numpy(np.stack([pair.difference for pair in pairs]))
        seen = torch.stack([self._seen(pair, prototype) for pair in pairs])
        asked, past = self.settings.query * self.query(queries), self.settings.history * self.history(seen)
        return ((prototype + asked + past) * differences).sum(dim=1)

    def _seen(self, pair: Pair, prototype: torch.Tensor) -> torch.Tensor:
        """v_H [D]: past choices, attended to by the query and the prototype; zero without any."""
        if not pair.past:
            return torch.zeros_like(prototype)
        said = torch.from_numpy(np.stack([np.concatenate(choice) for choice in pair.past]))
        o = torch.tanh(self.past(said))
        rho, root = self.settings.rho, o.shape[1] ** 0.5
        weights = (rho, 1.0) if self.settings.released else (1.0, rho)
        logits = (weights[0] * (o @ torch.from_numpy(pair.query)) + weights[1] * (o @ prototype)) / root
        return torch.softmax(logits, dim=0) @ o


def loss_of(
    delta: torch.Tensor, prototype: torch.Tensor, mean: torch.Tensor, before: torch.Tensor, settings: Refinement
) -> torch.Tensor:
    """L_pair + lambda_cent |a_j - mu_j|^2 + lambda_tr |a_j - p_j|^2; as released L_pair alone.

    before: p_j, the prototype as the epoch's visit to its cluster found it (a step before, it would pull nowhere).
    """
    pair = nn.functional.softplus(-delta).mean()
    if settings.released:
        return pair
    centre, trust = ((prototype - other).square().sum() for other in (mean, before))
    return pair + settings.centre * centre + settings.trust * trust


def refined(
    prototypes: Float64s, means: Float64s, members: Sequence[Sequence[Pair]], settings: Refinement, seed: int
) -> tuple[Float64s, PairModel]:
    """[K, D] the prototypes after the last epoch, of length 1, and the model around them.

    means: [K, D] mu_j; members: the pairs of each cluster. Prototypes are visited one after the other.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        model = PairModel(prototypes.shape[1], settings)
    vectors = [nn.Parameter(torch.from_numpy(np.array(vector))) for vector in prototypes]
    optimizer = torch.optim.AdamW([*model.parameters(), *vectors], lr=settings.lr)
    before = [vector.detach().clone() for vector in vectors]
    rng = np.random.default_rng(seed)
    for _ in range(settings.epochs):
        for j, own in enumerate(members):
            mean = torch.from_numpy(np.array(means[j]))
            order = rng.permutation(len(own))
            if not settings.released:
                before[j] = vectors[j].detach().clone()
            for start in range(0, len(own), settings.batch_size):
                batch = [own[index] for index in order[start : start + settings.batch_size]]
                optimizer.zero_grad(set_to_none=True)  # so that no other prototype decays
                loss_of(model(batch, vectors[j]), vectors[j], mean, before[j], settings).backward()
                optimizer.step()
                with torch.no_grad():
                    vectors[j].div_(vectors[j].norm())
                    if settings.released:
                        before[j] = settings.ema * before[j] + (1 - settings.ema) * vectors[j].detach()
    return np.stack([vector.detach().numpy() for vector in vectors]), model
