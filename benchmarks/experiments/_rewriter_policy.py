"""The simulated rewriter: a softmax over eight styles of rewriting, paid by the recipe's own terms.

A style has a loss under the base model, a chance to pass the gate and a direction. The fifth is like the expert's: it
nearly always passes, the base model finds it unlikely, and the policy starts from it. The last two are short and wrong.
32 prompts a step, 10 rewrites each, REINFORCE on advantages standardised within the group.

Beside it parts that do as they are told, for the reward itself: losses are read off a rewrite's first id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raylign.actors.judge.chat import Before, ChatModel, Reply
from raylign.contracts import Embedder, RewardFunction, Sampling
from raylign.errors import JudgeUnavailable
from raylign.objectives.advantage.base import rewards_differ
from raylign.objectives.advantage.group import GRPO
from raylign.recipes.rewriter.terms import Float64s, Weights, terms_of
from raylign.records import Float32s, Int32s, Message, Prompt, Trajectory, Value

LOSS = np.array([0.35, 0.40, 0.45, 0.50, 0.90, 1.2, 0.15, 0.20])
PASSES = np.array([0.9, 0.9, 0.9, 0.9, 0.98, 0.7, 0.05, 0.05])
EXPERT, HEAD_START = 4, 1.5  # style, logit
DIMENSIONS, JITTER, NOISE = 32, 0.25, 0.08  # the jitter's is its length
SAMPLES, PROMPTS, STEPS, RATE = 10, 32, 300, 0.6
STANDARDISED = GRPO(GRPO.Config())


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a policy ends with. Example: ``Outcome(feasible=0.9, loss=0.35, styles=1.1)``"""

    feasible: float  # mass of what passes
    loss: float  # mean NLL of what passes
    styles: float  # effective number: exp of the entropy


def train(weights: Weights, seed: int) -> Outcome:
    """A policy from its start to its last step."""
    rng = np.random.default_rng([seed, 2602, 11220])
    directions = _unit(rng.normal(size=(len(LOSS), DIMENSIONS)))
    logits = np.zeros(len(LOSS))
    logits[EXPERT] = HEAD_START
    for _ in range(STEPS):
        shares = _softmax(logits)
        gradient = np.zeros(len(LOSS))
        for _ in range(PROMPTS):
            styles = rng.choice(len(LOSS), size=SAMPLES, p=shares)
            rewards = _paid(styles, directions, weights, rng)
            if rewards_differ(rewards):
                advantages = STANDARDISED.of_group(rewards)
                np.add.at(gradient, styles, advantages)
                gradient -= advantages.sum() * shares
        logits += RATE * gradient / (PROMPTS * SAMPLES)
    return _outcome(_softmax(logits))


def _paid(styles: Any, directions: Float64s, weights: Weights, rng: np.random.Generator) -> Float64s:
    passed = (rng.random(SAMPLES) < PASSES[styles]).astype(np.float64)
    losses = LOSS[styles] + NOISE * rng.normal(size=SAMPLES)
    jitter = JITTER / np.sqrt(DIMENSIONS) * rng.normal(size=(SAMPLES, DIMENSIONS))
    vectors = _unit(directions[styles] + jitter)
    compared = weights.compared(passed)
    return terms_of(passed, losses[compared], vectors[compared], weights).reward


def _outcome(shares: Float64s) -> Outcome:
    feasible = float(shares @ PASSES)
    loss = float((shares * PASSES) @ LOSS) / feasible
    return Outcome(feasible=feasible, loss=loss, styles=float(np.exp(-np.sum(shares * np.log(shares)))))


def _softmax(logits: Float64s) -> Float64s:
    weights = np.exp(logits - logits.max())
    shares: Float64s = weights / weights.sum()
    return shares


def _unit(vectors: Float64s) -> Float64s:
    lengths: Float64s = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return lengths


# ------------------------------------------------------------------------------------------------- parts by script


class Losses(ChatModel):
    """Scores ids by the first of them: number n stands for the n-th loss."""

    @dataclass
    class Config:
        """The losses, which of them are no numbers, and whether it is gone."""

        losses: list[float] = field(default_factory=list)
        broken: list[int] = field(default_factory=list)
        gone: bool = False

    config: Config

    @property
    def name(self) -> str:
        """See `ChatModel.name`."""
        return f"losses {self.config}"

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Reply:
        """It says nothing."""
        raise JudgeUnavailable("it only scores")

    async def score(self, before: Before, ids: Sequence[int] | Int32s) -> Float32s:
        """See `ChatModel.score`."""
        if self.config.gone:
            raise JudgeUnavailable("the base model is gone")
        number = int(ids[0])
        return np.full(len(ids), np.nan if number in self.config.broken else -self.config.losses[number], np.float32)


class Directions(Embedder):
    """A text is the number of a vector."""

    @dataclass
    class Config:
        """The vectors, of length 1."""

        vectors: list[list[float]] = field(default_factory=list)

    config: Config

    @property
    def identity(self) -> str:
        """See `Embedder.identity`."""
        return "directions"

    def embed(self, texts: Sequence[str]) -> Float32s:
        """See `Embedder.embed`."""
        return np.array([self.config.vectors[int(text)] for text in texts], np.float32)


class Passing(RewardFunction):
    """1 for the texts that it lists, else 0."""

    @dataclass
    class Config:
        """The texts."""

        texts: list[str] = field(default_factory=list)

    config: Config

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """See `RewardFunction.score`."""
        return [Value(score=float(trajectory.text in self.config.texts)) for trajectory in trajectories]
