"""The collapse world of Sci-CoE: solver and verifier are softmaxes over classes and families, rewards the product's.

A solution is right or of one of four error classes. A strategy is of one of six families: four specialists, each of
which rejects one error class, a lenient one and an off-topic one that decides by chance. Embeddings are a fixed
direction for each family with noise, off the topic a new one every time. 12 questions a step, 8 solutions and 12
strategies each, REINFORCE on advantages standardised within question and role.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from raylign.objectives.advantage.base import rewards_differ
from raylign.objectives.advantage.group import GRPO
from raylign.recipes.sci_coe.anchored import Grading, graded_by_labels
from raylign.recipes.sci_coe.geometry import Combine, LabelRule, Rules, combined, consensus, terms

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]
CLASSES, FAMILIES, SPECIALISTS, LENIENT, OFF_TOPIC = 5, 6, 4, 4, 5
RIGHT = 0
QUESTIONS, SOLUTIONS, STRATEGIES, CLUSTERS, DIMENSIONS, NOISE = 12, 8, 12, 5, 16, 0.1
SOLVER_RATE, VERIFIER_RATE = 0.12, 0.5
START, DIFFICULTY, HEAD_START = 1.1, 0.8, 0.5
WEAK = 0.4  # accuracy of the solver that the final verifier chooses from
STANDARDISED = GRPO(GRPO.Config())


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to train. Example: ``Arm(weights=(1.0, 0.0, 0.0), anchored=12)``, the naive consensus with anchors."""

    weights: tuple[float, float, float] = (1.0, 0.5, 1.0)
    anchored: int = 0  # labelled steps before
    steps: int = 120  # unlabelled
    label: LabelRule = LabelRule.relative
    leave_one_out: bool = False  # the digest's default for 12 strategies
    combine: Combine = Combine.sum


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run ended with: solver's accuracy, best of 8 by the verifier with a weak solver, and what it writes."""

    accuracy: float
    best_of_8: float
    off_topic: float
    families: float  # effective number of specialists, exp of the entropy among them


def acceptance() -> Float64s:
    """[CLASSES, FAMILIES] chance that a strategy of a family accepts a solution of a class."""
    table = np.full((CLASSES, FAMILIES), 0.85)
    table[RIGHT] = 0.95
    for family in range(SPECIALISTS):
        table[1 + family, family] = 0.10
    table[:, LENIENT], table[RIGHT, LENIENT] = 0.97, 0.98
    table[:, OFF_TOPIC] = 0.5
    return table


ACCEPTS = acceptance()


@dataclass(slots=True)
class World:
    """Two policies and their chance. Example: ``World(seed=3)``"""

    seed: int
    solver: Float64s = field(default_factory=lambda: np.eye(CLASSES)[RIGHT] * START)  # logits
    verifier: Float64s = field(default_factory=lambda: np.array([0.0] * SPECIALISTS + [HEAD_START] * 2))
    rng: np.random.Generator = field(init=False)
    directions: Float64s = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, 2602, 12164])
        self.directions = unit(self.rng.normal(size=(FAMILIES, DIMENSIONS)))

    def step(self, arm: Arm, labelled: bool) -> None:
        """One update of both policies on 12 questions."""
        gradients = [np.zeros(CLASSES), np.zeros(FAMILIES)]
        for _ in range(QUESTIONS):
            chances, written = softmax(self.solver + difficulty(self.rng)), softmax(self.verifier)
            solutions, strategies = self.sample(chances, SOLUTIONS), self.sample(written, STRATEGIES)
            verdicts = self.verdicts(solutions, strategies)
            right = solutions == RIGHT
            if labelled:
                solver = right.astype(np.float64)
                verifier = graded_by_labels(verdicts, right, Grading.smooth) if right.any() else np.zeros(STRATEGIES)
            else:
                solver, verifier = consensus(verdicts), self.rewards(arm, verdicts, strategies)
            gradients[0] += score_gradient(chances, solutions, solver)
            gradients[1] += score_gradient(written, strategies, verifier)
        self.solver = self.solver + SOLVER_RATE * gradients[0] / QUESTIONS
        self.verifier = self.verifier + VERIFIER_RATE * gradients[1] / QUESTIONS

    def rewards(self, arm: Arm, verdicts: Float64s, strategies: Int64s) -> Float64s:
        """[M] the recipe's reward of every strategy."""
        rules = Rules(tau=0.8, label=arm.label, leave_one_out=arm.leave_one_out, clusters=CLUSTERS)
        parts = terms(verdicts, self.embedded(strategies), rules, int(self.rng.integers(2**31)))
        return combined(parts, arm.weights, arm.combine)

    def embedded(self, strategies: Int64s) -> Float64s:
        """[M, D] vectors of length 1."""
        base = self.directions[strategies]
        strange = unit(self.rng.normal(size=base.shape))
        base = np.where((strategies == OFF_TOPIC)[:, None], strange, base)
        return unit(base + NOISE * self.rng.normal(size=base.shape))

    def sample(self, chances: Float64s, count: int) -> Int64s:
        """[count] numbers drawn with these chances."""
        return np.minimum(np.searchsorted(np.cumsum(chances), self.rng.random(count)), len(chances) - 1)

    def verdicts(self, solutions: Int64s, strategies: Int64s) -> Float64s:
        """[N, M] 0 and 1."""
        chances = ACCEPTS[np.ix_(solutions, strategies)]
        return (self.rng.random(chances.shape) < chances).astype(np.float64)

    def outcome(self, trials: int = 4000) -> Outcome:
        """What both policies are now worth, on fresh questions."""
        written = softmax(self.verifier)
        accuracy = np.mean([softmax(self.solver + difficulty(self.rng))[RIGHT] for _ in range(trials)])
        weak = np.array([WEAK] + [(1 - WEAK) / (CLASSES - 1)] * (CLASSES - 1))
        chosen = 0
        for _ in range(trials):
            solutions = self.sample(weak, SOLUTIONS)
            accepted = self.verdicts(solutions, self.sample(written, STRATEGIES)).sum(axis=1)
            chosen += int(solutions[int(accepted.argmax())] == RIGHT)
        among = written[:SPECIALISTS] / written[:SPECIALISTS].sum()
        return Outcome(
            accuracy=float(accuracy),
            best_of_8=chosen / trials,
            off_topic=float(written[OFF_TOPIC]),
            families=float(np.exp(-np.sum(among * np.log(np.maximum(among, 1e-300))))),
        )


def train(arm: Arm, seed: int) -> Outcome:
    """A whole run."""
    world = World(seed)
    for step in range(arm.anchored + arm.steps):
        world.step(arm, labelled=step < arm.anchored)
    return world.outcome()


def score_gradient(chances: Float64s, drawn: Int64s, rewards: Float64s) -> Float64s:
    """Mean of A (one-hot - p) over the samples; nothing where the rewards are all equal."""
    if not rewards_differ(rewards):
        return np.zeros_like(chances)
    advantages = STANDARDISED.of_group(rewards)
    gradient: Float64s = (advantages[:, None] * (np.eye(len(chances))[drawn] - chances)).mean(axis=0)
    return gradient


def difficulty(rng: np.random.Generator) -> Float64s:
    """[CLASSES] what a question adds to the logit of the right answer."""
    return np.eye(CLASSES)[RIGHT] * rng.normal(0.0, DIFFICULTY)


def softmax(logits: Float64s) -> Float64s:
    """Chances."""
    grown = np.exp(logits - logits.max())
    chances: Float64s = grown / grown.sum()
    return chances


def unit(rows: Float64s) -> Float64s:
    """Rows of length 1."""
    scaled: Float64s = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return scaled
