"""Part A of `quark_medical`: five rewards on a bandit, combined by the recipe's own shaper; NumPy, no model.

6 contexts with 40 answers each; a table softmax policy, groups of 16, 300 steps of plain policy gradient (lr 0.5) on
R standardised within the group. Of an answer: quality q ~ N(0, 1); safe with chance .85, but for the 4 best of each
context, which are unsafe; format right with chance .3; n ~ N(0, 1), another one for each reward::

    ORM q + .15 n      HELP 50 + 10 (q + .15 n)      FACT sigmoid(.5 q + n)      SAFE 0 or -1      FMT 0 or 1

Noise of a draw: .3, 3, .1, 0, 0. mu and sigma are of 256 draws a context from the first policy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raylign.recipes.quark_medical.combiner import Mode, ReferenceFrozen, z_scores
from raylign.recipes.quark_medical.factors import Factor, Factors, Risk
from raylign.recipes.quark_medical.table import RewardTable, variance_shares
from raylign.recipes.stages.calibrate import statistics_of

Float64s = NDArray[np.float64]
NAMES = ("orm", "help", "fact", "safe", "fmt")
CONTEXTS, ANSWERS, GROUP, STEPS, RATE = 6, 40, 16, 300, 0.5
CALIBRATION = 256
DRAW_NOISE = np.array([0.3, 3.0, 0.1, 0.0, 0.0])


@dataclass(frozen=True, slots=True)
class Arm:
    """A combiner. factors: of mode tri_factor."""

    mode: Mode
    factors: tuple[Factor, ...] = tuple(Factor)


@dataclass(slots=True)
class Outcome:
    """What a trained policy is, in expectation; shares of the variance of R are means over the steps."""

    quality: float
    unsafe: float
    formatted: float
    normalized: Float64s  # [5]
    shares: Float64s  # [5]


@dataclass(slots=True)
class Bandit:
    """The answers of one seed. Arrays are [context, answer]."""

    seed: int
    quality: Float64s = field(init=False)
    rewards: Float64s = field(init=False)  # [context, answer, 5] without the noise of draws

    def __post_init__(self) -> None:
        rng = np.random.default_rng([self.seed, 2602, 11661])
        shape = (CONTEXTS, ANSWERS)
        q = self.quality = rng.normal(size=shape)
        safe = rng.random(shape) < 0.85
        np.put_along_axis(safe, np.argsort(-q, axis=1)[:, :4], False, axis=1)
        orm, helpful, facts = (rng.normal(size=shape) for _ in range(3))
        columns = [
            q + 0.15 * orm,
            50 + 10 * (q + 0.15 * helpful),
            1 / (1 + np.exp(-(0.5 * q + facts))),
            safe - 1.0,
            (rng.random(shape) < 0.3) * 1.0,
        ]
        self.rewards = np.stack(columns, axis=2)

    def draw(self, policy: Float64s, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], RewardTable]:
        """[context, count] answers, and their rewards as the shaper sees them."""
        chosen = np.stack([rng.choice(ANSWERS, count, p=row) for row in policy])
        raw = np.take_along_axis(self.rewards, chosen[:, :, None], axis=1)
        raw = (raw + DRAW_NOISE * rng.normal(size=raw.shape)).reshape(-1, len(NAMES))
        return chosen, RewardTable(
            names=NAMES,
            raw=raw,
            applies=np.ones(raw.shape, bool),
            groups=np.repeat(np.arange(CONTEXTS), count),
            domains=("",) * CONTEXTS,
        )


def softmax(logits: Float64s) -> Float64s:
    """[context, answer]"""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def write_statistics(path: Path, columns: Mapping[str, Float64s]) -> str:
    """A file as the `Calibrate` stage writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rewards = {name: statistics_of(values.tolist(), [0, 0]) for name, values in columns.items()}
    path.write_text(json.dumps({"rewards": rewards}))
    return str(path)


def train(arm: Arm, seed: int, folder: Path) -> Outcome:
    """One arm on one bandit."""
    bandit, rng = Bandit(seed), np.random.default_rng([seed, 1])
    logits = np.zeros((CONTEXTS, ANSWERS))
    _, calibration = bandit.draw(softmax(logits), CALIBRATION, rng)
    statistics = write_statistics(folder / f"bandit-{seed}.json", dict(zip(NAMES, calibration.raw.T, strict=True)))
    factors = Factors(use=list(arm.factors), risk={"safe": Risk(floor=0.0, beta=4.0)})
    config = ReferenceFrozen.Config(statistics=statistics, mode=arm.mode, factors=factors)
    shaper = ReferenceFrozen(config, weights=dict.fromkeys(NAMES, 1.0), max_tokens=1)
    shares = np.zeros(len(NAMES))
    for _ in range(STEPS):
        policy = softmax(logits)
        chosen, table = bandit.draw(policy, GROUP, rng)
        advantages = z_scores(shaper.combined(table).reshape(CONTEXTS, GROUP).T).T
        shares += variance_shares(shaper.summands(table), table.groups) / STEPS
        drawn = np.zeros_like(logits)
        np.add.at(drawn, (np.arange(CONTEXTS)[:, None], chosen), advantages)
        logits += RATE * (drawn - advantages.sum(axis=1, keepdims=True) * policy) / GROUP
    policy, mean = softmax(logits), calibration.raw.mean(axis=0)
    expected = np.einsum("ca,cak->k", policy, bandit.rewards) / CONTEXTS
    return Outcome(
        quality=float((policy * bandit.quality).sum() / CONTEXTS),
        unsafe=float(-expected[3]),
        formatted=float(expected[4]),
        normalized=(expected - mean) / calibration.raw.std(axis=0),
        shares=shares,
    )
