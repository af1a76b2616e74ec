"""The papers' equations in plain float64 loops over ragged rows. Slow, obvious, independent of the platform."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Row = Sequence[float]
Rows = Sequence[Row]


def grpo(rewards: Row, eps: float, ddof: int = 1) -> list[float]:
    """arXiv:2402.03300: (R_i - mean) / std."""
    mean = sum(rewards) / len(rewards)
    std = math.sqrt(sum((r - mean) ** 2 for r in rewards) / (len(rewards) - ddof))
    return [(r - mean) / (std + eps) for r in rewards]


def rloo(rewards: Row) -> list[float]:
    """arXiv:2402.14740: R_i - 1/(k-1) sum_{j != i} R_j."""
    k = len(rewards)
    return [rewards[i] - sum(rewards[j] for j in range(k) if j != i) / (k - 1) for i in range(k)]


def leave_one_out_std(rewards: Row, eps: float) -> list[float]:
    """(R_i - mean) / sample std of the others; undivided where the others are all equal."""
    result = []
    for i in range(len(rewards)):
        others = [rewards[j] for j in range(len(rewards)) if j != i]
        deviation = rewards[i] - sum(rewards) / len(rewards)
        result.append(deviation / (float(np.std(others, ddof=1)) + eps) if max(others) > min(others) else deviation)
    return result


def whitened(rows: Rows) -> list[list[float]]:
    """arXiv:2501.03262: (x - mean) / std over all tokens of the batch."""
    flat = np.array([x for row in rows for x in row], np.float64)
    return [[(x - flat.mean()) / flat.std() for x in row] for row in rows]


def kl_to_go(kl: Row) -> list[float]:
    return [sum(kl[t:]) for t in range(len(kl))]


def gae_carry_through(
    reward: Row, value: Row, action: Sequence[bool], gamma: float, lam: float
) -> tuple[list[float], list[float]]:
    """Backwards over *all* tokens of a row; an observation token leaves the carried value and advantage as they are."""
    advantage, returns = [0.0] * len(reward), [0.0] * len(reward)
    next_value, carried = 0.0, 0.0
    for t in reversed(range(len(reward))):
        if action[t]:
            delta = reward[t] + gamma * next_value - value[t]
            carried = delta + gamma * lam * carried
            next_value = value[t]
            advantage[t], returns[t] = carried, carried + value[t]
    return advantage, returns


def gae_zeroing(reward: Row, value: Row, action: Sequence[bool], gamma: float, lam: float) -> list[float]:
    """The wrong one: observation tokens as steps of value 0."""
    advantage, carried = [0.0] * len(reward), 0.0
    held = [v if a else 0.0 for v, a in zip(value, action, strict=True)]
    for t in reversed(range(len(reward))):
        following = held[t + 1] if t + 1 < len(reward) else 0.0
        carried = reward[t] + gamma * following - held[t] + gamma * lam * carried
        advantage[t] = carried
    return advantage


def k(name: str, lp: float, ref: float) -> float:
    d = lp - ref
    return {"k1": d, "k2": d * d / 2, "k3": math.exp(-d) - 1 + d}[name]


def clip_token(ratio: float, a: float, low: float, high: float, dual: float | None = None) -> float:
    """-min(r A, clip(r, 1-low, 1+high) A), and for A < 0 at most -c A."""
    objective = min(ratio * a, min(max(ratio, 1 - low), 1 + high) * a)
    if dual is not None and a < 0:
        objective = max(objective, dual * a)
    return -objective


def policy_tokens(kind: str, lp: Rows, old: Rows, adv: Rows, low: float, high: float, dual: float | None) -> list:
    """Token losses of every row."""
    result = []
    for row_lp, row_old, row_a in zip(lp, old, adv, strict=True):
        log_ratio = [x - y for x, y in zip(row_lp, row_old, strict=True)]
        if kind == "gspo":  # arXiv:2507.18071: s = (pi(y)/pi_old(y)) ** (1/|y|)
            s = math.exp(sum(log_ratio) / len(log_ratio)) if log_ratio else 1.0
            result.append([clip_token(s, a, low, high, dual) for a in row_a])
        elif kind == "clip":
            result.append([clip_token(math.exp(d), a, low, high, dual) for d, a in zip(log_ratio, row_a, strict=True)])
        elif kind == "cispo":
            weights = [min(max(math.exp(d), 1 - low), 1 + high) for d in log_ratio]
            result.append([-w * a * x for w, a, x in zip(weights, row_a, row_lp, strict=True)])
        elif kind == "cispo_absolute":
            weights = [min(math.exp(d), high) for d in log_ratio]
            result.append([-w * a * x for w, a, x in zip(weights, row_a, row_lp, strict=True)])
        else:
            result.append([-a * x for a, x in zip(row_a, row_lp, strict=True)])
    return result


def aggregate(mode: str, losses: Rows, length: int = 0) -> float:
    """Rows without tokens take no part."""
    rows = [row for row in losses if len(row)]
    if mode == "token":
        return sum(map(sum, rows)) / sum(map(len, rows))
    if mode == "sequence":
        return sum(sum(row) / len(row) for row in rows) / len(rows)
    return sum(map(sum, rows)) / (len(rows) * length)


def mismatch(mode: str, learner: Rows, sampler: Rows, low: float, high: float) -> list[list[float]]:
    result = []
    for mine, theirs in zip(learner, sampler, strict=True):
        weights = [math.exp(x - y) for x, y in zip(mine, theirs, strict=True)]
        product = math.prod(weights)
        if mode == "truncate":
            result.append([min(w, high) for w in weights])
        elif mode == "mask":
            result.append([w if low <= w <= high else 0.0 for w in weights])
        elif mode == "sequence_truncate":
            result.append([min(product, high)] * len(weights))
        elif mode == "sequence_mask":
            result.append([product if low <= product <= high else 0.0] * len(weights))
        else:
            result.append([1.0] * len(weights))
    return result


def value_token(v: float, old: float, target: float, clip: float | None) -> float:
    plain = (v - target) ** 2
    if clip is None:
        return 0.5 * plain
    near = old + min(max(v - old, -clip), clip)
    return 0.5 * max(plain, (near - target) ** 2)
