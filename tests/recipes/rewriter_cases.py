"""Rewrites of a problem, and the rewriter's parts with a base model, an embedder and a gate by script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from raylign.actors.judge.chat import Before, ChatModel, Reply
from raylign.chat.template import ChatTemplate
from raylign.contracts import Embedder, RewardFunction, Sampling
from raylign.errors import JudgeUnavailable
from raylign.recipes.rewriter import RewriteReward, Rewriting
from raylign.records import Float32s, Int32s, Message, Prompt, Trajectory, Value
from raylign.testing import records

HERE = __name__
LOSSES = [0.4, 0.9, 0.1, 0.5]
EXPERTS = 0.7  # loss of every other text
SOLUTION = r"First 2 and 2 make 4, so the answer is \boxed{4}."


class Base(ChatModel):
    """Scores ids by the first of them: number n has the n-th loss on every token. Remembers what it was asked."""

    heard: ClassVar[list[tuple[list[Any], list[int]]]] = []

    @dataclass
    class Config:
        losses: list[float] = field(default_factory=lambda: list(LOSSES))
        words: dict[str, list[int]] = field(default_factory=lambda: {"YES": [0], "NO": [1]})
        nan: list[int] = field(default_factory=list)
        infinite: list[int] = field(default_factory=list)
        gone: bool = False

    config: Config

    @property
    def name(self) -> str:
        return f"base {self.config}"

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Reply:
        raise AssertionError("nothing is generated")

    async def score(self, before: Before, ids: Sequence[int] | Int32s) -> Float32s:
        if self.config.gone:
            raise JudgeUnavailable("the base model is gone")
        self.heard.append((list(before), [int(number) for number in ids]))
        number = int(ids[0])
        if number in self.config.nan:
            return np.full(len(ids), np.nan, np.float32)
        if number in self.config.infinite:
            return np.full(len(ids), -np.inf, np.float32)
        return np.full(len(ids), -(self.config.losses[number] if number < 4 else EXPERTS), np.float32)

    async def tokens_of(self, text: str) -> list[int]:
        return self.config.words[text]


class Vectors(Embedder):
    """A direction for each text, by the hash of its letters."""

    @dataclass
    class Config:
        gone: bool = False

    @property
    def identity(self) -> str:
        return "vectors"

    def embed(self, texts: Sequence[str]) -> Float32s:
        if self.config.gone:
            raise JudgeUnavailable("the embedder is gone")
        return np.array([vector_of(text) for text in texts], np.float32)


class Passes(RewardFunction):
    """1 for the texts that it lists, else 0."""

    @dataclass
    class Config:
        texts: list[str] = field(default_factory=list)
        broken: bool = False

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        if self.config.broken:
            raise ValueError("no verdict")
        return [Value(score=float(trajectory.text in self.config.texts)) for trajectory in trajectories]


def vector_of(text: str) -> np.ndarray:
    vector = np.random.default_rng(list(text.encode())).normal(size=6)
    unit: np.ndarray = vector / np.linalg.norm(vector)
    return unit


def reward(passing: Sequence[str], *, embedder: dict[str, Any] | None = None, **settings: Any) -> RewriteReward:
    """settings: of the reward; those of the base model as ``base_<name>``."""
    of_base = {name.removeprefix("base_"): settings.pop(name) for name in list(settings) if name.startswith("base_")}
    config = RewriteReward.Config(
        gate={"_target_": f"{HERE}.Passes", "texts": [*passing]},
        base={"_target_": f"{HERE}.Base", **of_base},
        embedder={"_target_": f"{HERE}.Vectors", **(embedder or {})},
        **settings,
    )
    return RewriteReward(config)


def rewrites(*texts: str) -> list[Trajectory]:
    """Sample n says its text, and its ids begin with n."""
    return [
        records.trajectory(records.call(text, [number, 50, 51]), sample_index=number)
        for number, text in enumerate(texts)
    ]


def problem(**fields: Any) -> Prompt:
    plain = {"answer": "4", "meta": {"target": SOLUTION, "verifier": "boxed_math"}, "text": "2+2?"}
    return records.prompt(**{**plain, **fields})


def rewriting(template: ChatTemplate, **settings: Any) -> Rewriting:
    return Rewriting(Rewriting.Config(**settings), tokenizer=template, seed=0)
