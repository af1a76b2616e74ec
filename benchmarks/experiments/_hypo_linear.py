"""HyPO's methods on margins that are linear in the parameters: each trained from one reference, and judged by it."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import torch

from raylign.data.pair_rows import PairText
from raylign.objectives.loss.margin import PairLoss, ReferenceMargin, pair_loss, target_margin

Run = dict[str, dict[str, float]]  # method -> metric -> value
Mode = ReferenceMargin
METHODS = {"dpo": Mode.dpo, "hypo": Mode.hypo, "smooth": Mode.hypo_smooth, "absolute": Mode.none}
TAU = 0.1


def controlled_run(seed: int, features: int = 64, pairs: int = 2000, norm: float = 3.0) -> Run:
    """Margins w.u of Gaussian features u, whose true weights are known; the reference is weak and mostly random."""
    rng = np.random.default_rng(seed)
    truth, noise = (norm * vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, features)))
    start = 0.15 * truth + noise
    oriented = []
    for _ in range(2):
        z = rng.normal(size=(pairs, features))
        wins = rng.random(pairs) < 1 / (1 + np.exp(-z @ truth))
        oriented.append(np.where(wins[:, None], z, -z))
    train, test = (torch.tensor(u) for u in oriented)
    judged = {}
    for name, mode in METHODS.items():
        w = _descend(mode, train, torch.tensor(start), beta=1.0, steps=60, rate=0.5)
        judged[name] = _judge(test @ w, test @ torch.tensor(start))
    return judged


def unigram_run(pairs: list[PairText], seed: int, held: int = 600, words: int = 1500) -> Run:
    """Averaged log-probs of a unigram language model over the words of real pairs, one random split."""
    order = np.random.default_rng(seed).permutation(len(pairs))
    test, train = order[:held], order[held:]
    split = [tuple(_words(answer) for answer in (pair.chosen, pair.rejected)) for pair in pairs]
    counts = Counter(word for i in train for answer in split[i] for word in answer)
    vocabulary = {word: number for number, (word, _) in enumerate(counts.most_common(words))}
    size, unknown, end = len(vocabulary) + 2, len(vocabulary), len(vocabulary) + 1
    rows = np.zeros((len(pairs), 2, size))
    for i, answers in enumerate(split):
        for side, answer in enumerate(answers):
            np.add.at(rows[i, side], [vocabulary.get(word, unknown) for word in answer] + [end], 1)
    total = 1 + rows[train].sum((0, 1))
    reference = torch.tensor(np.log(total / total.sum()))
    # Averaged counts of the two answers sum to one each: the softmax's normaliser cancels in a margin, which is linear.
    averaged = torch.tensor(rows / rows.sum(-1, keepdims=True))
    features = averaged[:, 0] - averaged[:, 1]
    judged = {}
    for name, mode in METHODS.items():
        theta = _descend(mode, features[train], reference, beta=5.0, steps=400, rate=8.0)
        judged[name] = _judge(features[test] @ theta, features[test] @ reference)
        seen = _judge(features[train] @ theta, features[train] @ reference)
        judged[name]["relative_agreement/train"] = seen["relative_agreement"]
    return judged


def _descend(
    mode: ReferenceMargin, features: torch.Tensor, start: torch.Tensor, *, beta: float, steps: int, rate: float
) -> torch.Tensor:
    """Full-batch gradient steps on the library's own loss, for margins that are linear in the parameters."""
    target = target_margin(mode, features @ start, 0.0, TAU)
    w = start.clone().requires_grad_()
    for _ in range(steps):
        loss = pair_loss(PairLoss.sigmoid, features @ w, target, beta).mean()
        (gradient,) = torch.autograd.grad(loss, w)
        with torch.no_grad():
            w -= rate * gradient
    return w.detach()


def _judge(margin: torch.Tensor, ref: torch.Tensor) -> dict[str, float]:
    low, high = ref < 0, ref > 0
    return {
        "agreement": float((margin > 0).double().mean()),
        "agreement/pessimistic": float((margin[low] > 0).double().mean()),
        "agreement/optimistic": float((margin[high] > 0).double().mean()),
        "margin/pessimistic": float(margin[low].mean()),
        "relative_agreement": float((margin > ref).double().mean()),
        "share/pessimistic": float(low.double().mean()),
    }


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())
